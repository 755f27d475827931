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
  const lowest = Math.min(...models.map((model) => model.low));
  const height = upper_bound - lowest;
  const scoreAxis = {
    ...scale,
    title: { text: "BrierLM" },
    range: [lowest - 0.06 * height, upper_bound + 0.14 * height], // with room for the label of the upper bound
  };
  /**
   * @param {string} title
   * @param {Cost} cost
   */
  const costAxis = (title, cost) => ({
    ...scale,
    title: { text: title },
    type: "log",
    range: costRange(models, cost, width),
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
 * The range of a logarithmic axis, with room for a name on both sides of the points.
 * @param {ModelCost[]} models
 * @param {Cost} cost
 * @param {number} width
 */
function costRange(models, cost, width) {
  const costs = logCosts(models, cost);
  const [low, high] = [Math.min(...costs), Math.max(...costs)];
  const share = Math.min(0.4, Math.max(...nameWidths(models, width)) / plotWidth(width));
  const room = ((high - low || 0.5) * share) / (1 - 2 * share);
  return [low - room, high + room];
}

/**
 * The width of one of the two plots, in pixels.
 * @param {number} width of the figure
 */
function plotWidth(width) {
  return width * (width < NARROW ? 0.86 : 0.41);
}

/**
 * The space that each name takes beside its point, in pixels.
 * @param {ModelCost[]} models
 * @param {number} width
 */
function nameWidths(models, width) {
  return shownNames(models, width < NARROW).map((name) => 7 * name.length + 14);
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
    textposition: nameSides(models, cost, width),
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
 * @param {number} width
 */
function nameSides(models, cost, width) {
  const [start, end] = costRange(models, cost, width);
  const costs = logCosts(models, cost);
  const lengths = nameWidths(models, width).map((pixels) => (pixels * (end - start)) / plotWidth(width));
  const span = Math.max(...models.map((model) => model.high)) - Math.min(...models.map((model) => model.low));
  const [height, half] = [0.12 * span, 0.06 * span]; // of a name, in points of BrierLM
  /**
   * Whether an interval crosses the name of a model on its right (1) or left (-1).
   * @param {number} i
   * @param {1 | -1} side
   */
  const isCrossed = (i, side) =>
    models.some(({ low, high }, j) => {
      const distance = side * (costs[j] - costs[i]);
      return distance > 0 && distance < lengths[i] && low < models[i].score + half && high > models[i].score - half;
    });
  /** @type {string[]} */
  const sides = [];
  for (const i of [...models.keys()].sort((a, b) => costs[b] - costs[a])) {
    const meetsName = models.some(
      ({ score }, j) =>
        sides[j] === "middle left" &&
        Math.abs(score - models[i].score) < height &&
        costs[j] - costs[i] < lengths[i] + lengths[j],
    );
    const isLeft = (isCrossed(i, 1) || meetsName) && !isCrossed(i, -1);
    sides[i] = isLeft ? "middle left" : "middle right";
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
