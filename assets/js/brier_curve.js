// BrierLM over temperature, one curve for each model.
import { find } from "./dom.js";
import { createFigure, curveLayout, intervalBars, markedLine, seriesLine } from "./figures.js";

/** @param {Component<BrierCurvePayload>} component */
export function mountBrierCurveView({ element, props, watch }) {
  const target = find(element, ".calm-plot");
  const figure = createFigure(element, target, (colours) =>
    props.value ? curvesFigure(props.value.curves, colours) : null,
  );
  const render = () => {
    target.hidden = !props.value?.curves.some(({ points }) => points.length);
    if (!target.hidden) figure.render();
  };
  watch("value", render);
  render();
}

/**
 * @param {BrierCurve[]} curves
 * @param {Palette} colours
 * @returns {Figure}
 */
function curvesFigure(curves, colours) {
  return {
    traces: curves.map(({ model, points }, i) => series(model, points, seriesLine(colours, i))),
    layout: curveLayout(colours, { title: { text: "temperature" } }, { title: { text: "BrierLM" } }),
  };
}

/**
 * @param {string} name
 * @param {BrierPoint[]} points
 * @param {PlotlyAttributes} line
 */
function series(name, points, line) {
  return {
    ...markedLine(name, line, 6),
    x: points.map(({ temperature }) => temperature),
    y: points.map(({ score }) => score),
    error_y: intervalBars(
      points.map(({ score, low, high }) => ({ value: score, low, high })),
      line.color,
    ),
    hovertemplate: "BrierLM %{y:.1f} at T = %{x:.2g}<extra>%{fullData.name}</extra>",
  };
}
