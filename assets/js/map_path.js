// The path of a run on the map: its last steps as fading arrows, or the whole of it.
import { coordinates, escaped, faded, marker, mixed, path, trace } from "./map_series.js";

/** @typedef {import("./map_series.js").MapView} MapView */
/** @typedef {import("./map_series.js").Point} Point */
/** @typedef {import("./map_series.js").Look} Look */

/** Name of the trace whose points can be clicked. */
export const PATH = "predicted path";
const LAST_STEPS = 6;
const FAINTEST = 0.15;

/**
 * @param {MapView} view
 * @param {StepPayload} step
 * @returns {boolean} whether the map shows a step: one of the last few up to the current one, or any on request
 */
function isShown({ showWhole, currentStep }, step) {
  const end = currentStep ?? 0;
  return showWhole || (step.index <= end && step.index > end - LAST_STEPS);
}

/**
 * From 1 at the current step down to almost 0 at the oldest one that is shown.
 * @param {MapView} view
 * @param {StepPayload | undefined} step
 */
function freshness({ showWhole, currentStep }, step) {
  if (showWhole || !step) return 1;
  return Math.max(FAINTEST, 1 - ((currentStep ?? 0) - step.index) / LAST_STEPS);
}

/**
 * @param {MapView} view
 * @param {RunPayload} run
 * @param {"predicted" | "encoded"} kind
 * @param {(step: StepPayload) => string} label
 * @returns {Point[]} the steps of a run that have a position in the layout
 */
export function stepPoints(view, run, kind, label) {
  return run.steps.flatMap((step, i) => {
    const fitted = view.layout === "own" ? view.fit?.runs[run.run_id]?.[kind][i] : null;
    const at = fitted ?? coordinates(view, step[kind]);
    return at ? [{ at, label: label(step), step }] : [];
  });
}

/**
 * @param {MapView} view
 * @returns {Point[]} the chunks of the prompt
 */
function promptPoints(view) {
  const fitted = view.layout === "own" ? view.fit?.runs[view.run.run_id]?.prompt : null;
  return view.run.prompt_chunks.flatMap((chunk, i) => {
    const at = fitted?.[i] ?? coordinates(view, chunk.encoded);
    return at ? [{ at, label: escaped(chunk.text) }] : [];
  });
}

/** @param {StepPayload} step */
function errorLabel(step) {
  const error = step.distance === undefined ? "" : `, prediction error ${step.distance.toFixed(2)}`;
  return `${step.index + 1}: “${escaped(step.text)}”${error}`;
}

/** @param {MapView} view */
function predictedPoints(view) {
  return stepPoints(view, view.run, "predicted", errorLabel).filter(({ step }) => step && isShown(view, step));
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
export function promptTraces(view, colours) {
  if (!view.showWhole) return [];
  /** @type {Look} */
  const look = { color: colours.second, size: [8, 5], symbol: ["square", "square"], dash: "dot" };
  return [path(view, "prompt (encoded)", promptPoints(view), look, "“%{text}”<extra>prompt</extra>")];
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
export function encodedTraces(view, colours) {
  if (!view.showEncoded) return [];
  const points = stepPoints(view, view.run, "encoded", errorLabel).filter(({ step }) => step && isShown(view, step));
  /** @type {Look} */
  const look = { color: colours.second, size: [7, 4], symbol: ["diamond-open", "diamond"], dash: "dash" };
  return [path(view, "encoded path", points, look, "step %{text}<extra>encoded</extra>")];
}

/**
 * The points of the path, the older the smaller in space and the fainter in the plane.
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes}
 */
export function predictedTrace(view, colours) {
  const points = predictedPoints(view);
  const steps = /** @type {StepPayload[]} */ (points.map((point) => point.step));
  const look = { color: colours.accent, size: /** @type {[number, number]} */ ([7, 5]) };
  const plain = path(view, PATH, points, look, "step %{text}<extra></extra>");
  const strengths = steps.map((step) => freshness(view, step));
  const customdata = steps.map((step) => step.index);
  const scale = colourScale(view, steps);
  const mode = view.showWhole ? "lines+markers" : "markers";
  if (view.dimensions === 3) {
    const size = strengths.map((strength) => 2 + 3 * strength);
    return { ...plain, customdata, mode, marker: { ...plain.marker, size, ...scale } };
  }
  const line = { ...plain.line, color: faded(colours.accent, 0.45) };
  return { ...plain, customdata, mode, line, marker: { ...plain.marker, opacity: strengths, ...scale } };
}

/**
 * The last steps of the path in space, where Plotly draws no arrows: lines that fade.
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
export function segmentTraces(view, colours) {
  if (view.dimensions === 2 || view.showWhole) return [];
  const joints = predictedPoints(view);
  return joints.slice(1).map((end, i) => {
    const color = mixed(colours.accent, colours.paper, freshness(view, end.step));
    const line = { color, width: 4 };
    const fixed = { mode: "lines", showlegend: false, hoverinfo: "skip" };
    return trace(view, "step of the path", [joints[i], end], { ...fixed, line });
  });
}

/**
 * The last steps of the path as arrows, the older the fainter, from the end of the prompt on.
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]} annotations of the layout
 */
export function arrows(view, colours) {
  if (view.dimensions === 3) return [];
  const recent = { ...view, showWhole: false };
  const points = stepPoints(view, view.run, "predicted", () => "").filter(({ step }) => step && isShown(recent, step));
  const before = points[0]?.step?.index === 0 ? promptPoints(view).slice(-1) : [];
  const joints = [...before, ...points];
  return joints.slice(1).map(({ at, step }, i) => ({
    x: at[0],
    y: at[1],
    ax: joints[i].at[0],
    ay: joints[i].at[1],
    xref: "x",
    yref: "y",
    axref: "x",
    ayref: "y",
    text: "",
    showarrow: true,
    arrowhead: 2,
    arrowwidth: 1.6,
    arrowcolor: colours.accent,
    standoff: 5,
    startstandoff: 4,
    opacity: freshness(recent, step),
  }));
}

/** @type {Record<string, { title: string, value: (step: StepPayload) => number }>} */
const COLOURINGS = {
  step: { title: "step", value: (step) => step.index },
  distance: { title: "prediction error", value: (step) => step.distance ?? Number.NaN },
  frequency: { title: "log10(1 + count)", value: (step) => Math.log10(1 + (step.frequency ?? 0)) },
};

/**
 * The colours of the points. Prediction errors are coloured between the limits of what is typical,
 * where that was measured.
 * @param {MapView} view
 * @param {StepPayload[]} steps
 */
function colourScale({ colouring, summary }, steps) {
  const rule = COLOURINGS[colouring];
  if (!rule) return {};
  const usual = colouring === "distance" ? summary.prediction_error : null;
  const limits = usual ? { cmin: usual.low, cmax: usual.high } : {};
  const range = usual ? `<br>(typical ${usual.low.toFixed(2)}<br>to ${usual.high.toFixed(2)})` : "";
  const colorbar = { title: { text: `${rule.title}${range}` }, thickness: 12, len: 0.6 };
  return { color: steps.map(rule.value), colorscale: "Viridis", showscale: true, colorbar, ...limits };
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes}
 */
export function selectedTrace(view, colours) {
  const points = stepPoints(view, view.run, "predicted", (step) => escaped(step.text));
  const marked = points.filter(({ step }) => step?.index === (view.compact ? view.currentStep : view.markedStep));
  /** @type {Look} */
  const look = { color: colours.accent, size: [14, 9], symbol: ["diamond", "diamond"] };
  const outline = { width: 2, color: view.dimensions === 2 ? colours.ink : colours.accent };
  return trace(view, "selected step", marked, {
    mode: "markers+text",
    textposition: "top center",
    textfont: { size: 14, color: colours.ink },
    hoverinfo: "skip",
    marker: { ...marker(view, look), line: outline },
  });
}
