// BrierLM of the bundled models over FLOPs per token: of generation, and beside it (on a phone below it) of training.
import { find } from "./dom.js";
import { createFigure, scoreLine } from "./figures.js";

const NARROW = 640; // pixels
const TICKS = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000];

/** @typedef {"generation_flops" | "training_flops"} Cost */

/** @param {Component<ScoresPayload>} component */
export function mountScoresPlot({ element, props, watch }) {
  const target = find(element, ".calm-plot");
  /** @param {Palette} colours */
  const build = (colours) =>
    props.value?.models?.length ? scoresFigure(props.value, colours, target.clientWidth) : null;
  const figure = createFigure(element, target, build, { rebuildOnResize: true }); // the layout depends on the width
  watch("value", figure.render);
}

/**
 * @param {ScoresPayload} scores
 * @param {Palette} colours
 * @param {number} width in pixels
 * @returns {Figure}
 */
function scoresFigure({ models, upper_bound }, colours, width) {
  const narrow = width < NARROW;
  const scale = { gridcolor: colours.grid, zeroline: false };
  const scoreAxis = { ...scale, title: { text: "BrierLM" } };
  /**
   * @param {string} title
   * @param {Cost} cost
   */
  const costAxis = (title, cost) => ({
    ...scale,
    title: { text: title },
    type: "log",
    range: costRange(models, cost, narrow),
    tickvals: TICKS,
  });
  const left = { color: colours.accent, symbol: "circle" };
  const right = { color: colours.second, symbol: "diamond-open" };
  return {
    traces: [
      { ...series(models, "generation_flops", left, width), name: "generation, T = 1", xaxis: "x", yaxis: "y" },
      { ...series(models, "training_flops", right, width), name: "training", xaxis: "x2", yaxis: "y2" },
    ],
    layout: {
      margin: { l: 48, r: 8, t: 8, b: 44 },
      showlegend: false,
      uirevision: "keep",
      shapes: ["", "2"].map((axis) => upperBoundLine(upper_bound, axis, colours, narrow)),
      grid: {
        pattern: "independent",
        rows: narrow ? 2 : 1,
        columns: narrow ? 1 : 2,
        xgap: 0.15,
        ygap: 0.28,
      },
      xaxis: costAxis("million FLOPs per generated token", "generation_flops"),
      xaxis2: costAxis("million FLOPs per training token", "training_flops"),
      yaxis: scoreAxis,
      yaxis2: { ...scoreAxis, matches: "y" },
    },
  };
}

/**
 * @param {ModelCost[]} models
 * @param {Cost} cost
 */
function logCosts(models, cost) {
  return models.map((model) => Math.log10(model[cost] / 1e6));
}

/**
 * The range of a logarithmic axis, with room for a name on the right.
 * @param {ModelCost[]} models
 * @param {Cost} cost
 * @param {boolean} narrow
 */
function costRange(models, cost, narrow) {
  const costs = logCosts(models, cost);
  const [low, high] = [Math.min(...costs), Math.max(...costs)];
  const span = Math.max(0.5, high - low);
  return [low - 0.08 * span, high + (narrow ? 0.45 : 0.3) * span];
}

/**
 * @param {ModelCost[]} models
 * @param {Cost} cost
 * @param {PlotlyAttributes} look
 * @param {number} width
 */
function series(models, cost, look, width) {
  const names = shownNames(models, width < NARROW);
  return {
    type: "scatter",
    mode: "markers+text",
    marker: { size: 11, ...look },
    x: models.map((model) => model[cost] / 1e6),
    y: models.map((model) => model.score),
    error_y: {
      type: "data",
      symmetric: false,
      thickness: 1.2,
      width: 4,
      color: look.color,
      array: models.map((model) => model.high - model.score),
      arrayminus: models.map((model) => model.score - model.low),
    },
    text: names.map((name) => ` ${name} `),
    textposition: nameSides(models, cost, names, width),
    customdata: models.map((model) => model.model),
    hovertemplate: "%{customdata}: BrierLM %{y:.1f} at %{x:.1f} million FLOPs per token<extra>%{fullData.name}</extra>",
  };
}

/**
 * A narrow figure shows only the end of each name.
 * @param {ModelCost[]} models
 * @param {boolean} narrow
 */
function shownNames(models, narrow) {
  return models.map(({ model }) => (narrow ? (model.split("-").pop() ?? model) : model));
}

/**
 * A name stands to the right of its point, unless another model's interval or name would cross it there.
 * @param {ModelCost[]} models
 * @param {Cost} cost
 * @param {string[]} names
 * @param {number} width
 */
function nameSides(models, cost, names, width) {
  const narrow = width < NARROW;
  const [low, high] = costRange(models, cost, narrow);
  const unitsPerPixel = (high - low) / (width * (narrow ? 0.9 : 0.42));
  const costs = logCosts(models, cost);
  const lengths = names.map((name) => (7 * name.length + 14) * unitsPerPixel);
  /** @type {string[]} */
  const sides = [];
  for (const i of [...models.keys()].sort((a, b) => costs[b] - costs[a])) {
    const { score } = models[i];
    const isCrossed = models.some((other, j) => {
      if (costs[j] <= costs[i]) return false;
      const room = costs[j] - costs[i];
      const interval = room < lengths[i] && other.low < score + 0.3 && other.high > score - 0.3;
      const isNear = sides[j] === "middle left" && Math.abs(other.score - score) < 0.6;
      return interval || (isNear && room - lengths[j] < lengths[i]);
    });
    sides[i] = isCrossed ? "middle left" : "middle right";
  }
  return sides;
}

/**
 * @param {number} score
 * @param {string} axis "" or "2"
 * @param {Palette} colours
 * @param {boolean} narrow
 */
function upperBoundLine(score, axis, colours, narrow) {
  const text = `upper bound${narrow ? "" : " (true distribution)"}, ${score.toFixed(1)}`;
  return scoreLine(score, colours, { text, textposition: "end", yanchor: "bottom" }, axis);
}
