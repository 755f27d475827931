// Share of tokens restored over noise: of the visitor's text beside held-out stories.
import { find } from "./dom.js";
import { createFigure, curveLayout, markedLine, seriesLine } from "./figures.js";

/** @param {Component<CurvePayload>} component */
export function mountCurveView({ element, props, watch }) {
  const figure = createFigure(element, find(element, ".calm-plot"), (colours) =>
    props.value ? curveFigure(props.value, colours) : null,
  );
  watch("value", figure.render);
}

/**
 * @param {CurvePayload} curves
 * @param {Palette} colours
 * @returns {Figure}
 */
function curveFigure({ reference, measured, by_chunk_size }, colours) {
  const compared = by_chunk_size.map(({ name, points }, i) => curve(name, points, seriesLine(colours, i)));
  const traces = [
    curve("held-out stories", reference, { color: colours.second, width: 2, dash: "dot" }),
    curve("this text", measured, { color: colours.accent, width: 2.5 }),
  ];
  return {
    traces: compared.length ? compared : traces,
    layout: curveLayout(
      colours,
      { title: { text: "standard deviation of the noise" } },
      { title: { text: "tokens restored (%)" }, range: [0, 103] },
    ),
  };
}

/**
 * @param {string} name
 * @param {number[][]} points
 * @param {PlotlyAttributes} line
 */
function curve(name, points, line) {
  return {
    ...markedLine(name, line, 5),
    x: points.map(([noise]) => noise),
    y: points.map(([, share]) => 100 * share),
    hovertemplate: "%{y:.1f} % at noise %{x:.1f}<extra>%{fullData.name}</extra>",
  };
}
