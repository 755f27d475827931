// BrierLM of each generative head over the evaluations of its network in a draw.
import { find, percent } from "./dom.js";
import { createFigure, curveLayout, intervalBars, markedLine, scoreLine, seriesLine } from "./figures.js";

const TICKS = [1, 2, 5, 10, 20, 50, 100];

/** @param {Component<HeadsPayload>} component */
export function mountHeadsPlot({ element, props, watch }) {
  const figure = createFigure(element, find(element, ".calm-plot"), (colours) =>
    props.value ? headsFigure(props.value.heads, colours) : null,
  );
  watch("value", figure.render);
}

/**
 * @param {HeadFigures[]} heads
 * @param {Palette} colours
 * @returns {Figure}
 */
function headsFigure(heads, colours) {
  const trained = heads.filter(({ training }) => training);
  const references = heads.filter(({ training }) => !training);
  return {
    traces: trained.map(({ name, points }, i) => series(name, points, seriesLine(colours, i))),
    layout: {
      ...curveLayout(
        colours,
        { type: "log", tickvals: TICKS, title: { text: "evaluations of the head in a draw" } },
        { title: { text: "BrierLM" } },
      ),
      shapes: references.map((head) => referenceLine(head, colours)),
    },
  };
}

/**
 * @param {string} name
 * @param {HeadPoint[]} points
 * @param {PlotlyAttributes} line
 */
function series(name, points, line) {
  const scores = points.map((point) => point.brier_lm);
  const look = markedLine(name, line, 8);
  return {
    ...look,
    marker: { ...look.marker, symbol: points.length === 1 ? "diamond" : "circle" },
    x: points.map(({ evaluations }) => evaluations),
    y: scores.map(({ value }) => value),
    error_y: intervalBars(scores, line.color),
    customdata: points.map(({ draws_per_second, well_formed }) => [
      Math.round(draws_per_second).toLocaleString("en"),
      percent(well_formed.value),
    ]),
    hovertemplate:
      "BrierLM %{y:.1f} with %{x} evaluations<br>%{customdata[0]} draws/s<br>" +
      "%{customdata[1]} well-formed at T = 1<extra>%{fullData.name}</extra>",
  };
}

/**
 * @param {HeadFigures} head
 * @param {Palette} colours
 */
function referenceLine({ name, points }, colours) {
  const score = points[0].brier_lm.value;
  const text = `${name}, trained far longer, ${score.toFixed(1)}`;
  return scoreLine(score, colours, { text, textposition: "end", yanchor: "top" });
}
