// The traces of the vector map: training chunks, the prompt, the path of the shown run, other runs, a cloud of samples.
import { config } from "./config.js";
import { visible } from "./dom.js";

const MAX_OTHER_RUNS = 3;
const OTHER_DASHES = ["dash", "dot", "dashdot"];
const OTHER_SYMBOLS = ["triangle-up", "cross", "x"];
/** Name of the trace whose points can be clicked. */
export const PATH = "predicted path";

/**
 * The state that determines what the map shows.
 * @typedef {object} MapView
 * @property {RunPayload} run
 * @property {number | null} markedStep
 * @property {2 | 3} dimensions
 * @property {"umap" | "principal" | "own"} layout
 * @property {string} colouring "", "step", "distance" or "frequency"
 * @property {boolean} showEncoded
 * @property {RunPayload[]} otherRuns
 * @property {Cloud | null} cloud
 * @property {MapFile} map
 * @property {FittedMap | null} fit
 */

/**
 * A point of a trace: its coordinates, the text shown when it is hovered, and its step.
 * @typedef {{ at: number[], label: string, step?: StepPayload }} Point
 */

/**
 * The style of a series in the plane and in space.
 * @typedef {{ color: string, size: [number, number], symbol?: [string, string], dash?: string }} Look
 */

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
export function mapTraces(view, colours) {
  const traces = [trainingChunks(view, colours), promptPath(view, colours), ...otherPaths(view, colours)];
  if (view.showEncoded) traces.push(encodedPath(view, colours));
  if (view.cloud && view.layout !== "own") traces.push(cloudOf(view.cloud, view, colours));
  return [...traces, predictedPath(view, colours), selectedStep(view, colours)];
}

/**
 * Plotly reads "<" as the start of a tag.
 * @param {string} text
 */
function escaped(text) {
  return visible(text).replace(/</g, "&lt;");
}

/**
 * @param {MapView} view
 * @param {MapPosition | undefined} position
 * @returns {number[] | null} its coordinates in the layout; null in a map of the visitor's own, which holds steps only
 */
function coordinates({ layout, dimensions }, position) {
  if (!position || layout === "own") return null;
  return layout === "principal" ? position.principal : position[dimensions === 2 ? "plane" : "space"];
}

/**
 * @param {MapView} view
 * @param {RunPayload} run
 * @param {(step: StepPayload) => string} label
 * @returns {Point[]} the steps of a run that have a position in the layout
 */
function stepPoints(view, run, label) {
  return run.steps.flatMap((step, i) => {
    const fitted = view.layout === "own" ? view.fit?.runs[run.run_id]?.[i] : null;
    const at = fitted ?? coordinates(view, step.predicted);
    return at ? [{ at, label: label(step), step }] : [];
  });
}

/**
 * @param {MapView} view
 * @param {string} name
 * @param {Point[]} points
 * @param {PlotlyAttributes} attributes
 * @returns {PlotlyAttributes}
 */
function trace(view, name, points, attributes) {
  const flat = view.dimensions === 2;
  const axes = flat ? ["x", "y"] : ["x", "y", "z"];
  const columns = Object.fromEntries(axes.map((axis, i) => [axis, points.map(({ at }) => at[i])]));
  const text = points.map((point) => point.label);
  return { type: flat ? "scattergl" : "scatter3d", name, text, ...columns, ...attributes };
}

/**
 * @param {MapView} view
 * @param {Look} look
 */
function marker(view, { color, size, symbol = ["circle", "circle"] }) {
  const kind = view.dimensions === 2 ? 0 : 1;
  return { size: size[kind], symbol: symbol[kind], color };
}

/**
 * @param {MapView} view
 * @param {string} name
 * @param {Point[]} points
 * @param {Look} look
 * @param {string} hovertemplate
 */
function path(view, name, points, look, hovertemplate) {
  const line = { color: look.color, width: view.dimensions === 2 ? 1.5 : 3, dash: look.dash ?? "solid" };
  return trace(view, name, points, { mode: "lines+markers", line, marker: marker(view, look), hovertemplate });
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 */
function trainingChunks(view, colours) {
  const { layout, dimensions, map, fit } = view;
  const file = map[layout === "principal" ? "principal" : dimensions === 2 ? "plane" : "space"];
  const [positions, texts] = layout === "own" && fit ? [fit.positions, fit.texts] : [file, map.texts];
  const points = positions.map((at, i) => ({ at, label: escaped(texts[i]) }));
  return trace(view, "training chunks", points, {
    mode: "markers",
    marker: marker(view, { color: colours.cloud, size: [4, 2] }),
    hovertemplate: "“%{text}”<br>training chunk<extra></extra>",
  });
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 */
function promptPath(view, colours) {
  const points = view.run.prompt_chunks.flatMap((chunk) => {
    const at = coordinates(view, chunk.encoded);
    return at ? [{ at, label: escaped(chunk.text) }] : [];
  });
  const look = { color: colours.second, size: /** @type {[number, number]} */ ([8, 5]), dash: "dot" };
  const symbol = /** @type {[string, string]} */ (["square", "square"]);
  return path(view, "prompt (encoded)", points, { ...look, symbol }, "“%{text}”<extra>prompt</extra>");
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 */
function otherPaths(view, colours) {
  return view.otherRuns.slice(-MAX_OTHER_RUNS).map((run, i) => {
    const points = stepPoints(view, run, (step) => escaped(step.text));
    /** @type {Look} */
    const look = {
      color: colours.others[i],
      size: [6, 3],
      symbol: [OTHER_SYMBOLS[i], "circle"],
      dash: OTHER_DASHES[i],
    };
    return path(
      view,
      `earlier run, seed ${run.options.seed}`,
      points,
      look,
      "“%{text}”<extra>%{fullData.name}</extra>",
    );
  });
}

/** @param {StepPayload} step */
function errorLabel(step) {
  const error = step.distance === undefined ? "" : `, prediction error ${step.distance.toFixed(2)}`;
  return `${step.index + 1}: “${escaped(step.text)}”${error}`;
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 */
function encodedPath(view, colours) {
  const points = view.run.steps.flatMap((step) => {
    const at = coordinates(view, step.encoded);
    return at ? [{ at, label: errorLabel(step) }] : [];
  });
  /** @type {Look} */
  const look = { color: colours.second, size: [7, 4], symbol: ["diamond-open", "diamond"], dash: "dash" };
  return path(view, "encoded path", points, look, "step %{text}<extra>encoded</extra>");
}

/**
 * @param {Cloud} cloud
 * @param {MapView} view
 * @param {Palette} colours
 */
function cloudOf(cloud, view, colours) {
  const points = cloud.positions.flatMap((position, i) => {
    const at = coordinates(view, position);
    return at ? [{ at, label: escaped(cloud.texts[i]) }] : [];
  });
  /** @type {Look} */
  const look = { color: colours.accent, size: [6, 3], symbol: ["circle-open", "circle"] };
  return trace(view, `${config().fresh_samples} samples at this step`, points, {
    mode: "markers",
    marker: { ...marker(view, look), opacity: 0.6 },
    hovertemplate: "“%{text}”<extra>a sample</extra>",
  });
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 */
function predictedPath(view, colours) {
  const points = stepPoints(view, view.run, errorLabel);
  const steps = /** @type {StepPayload[]} */ (points.map((point) => point.step));
  const plain = path(view, PATH, points, { color: colours.accent, size: [7, 4] }, "step %{text}<extra></extra>");
  const customdata = steps.map((step) => step.index);
  return { ...plain, customdata, marker: { ...plain.marker, ...colourScale(view.colouring, steps) } };
}

/** @type {Record<string, { title: string, value: (step: StepPayload) => number }>} */
const COLOURINGS = {
  step: { title: "step", value: (step) => step.index },
  distance: { title: "prediction error", value: (step) => step.distance ?? Number.NaN },
  frequency: { title: "log10(1 + count)", value: (step) => Math.log10(1 + (step.frequency ?? 0)) },
};

/**
 * @param {string} colouring
 * @param {StepPayload[]} steps
 */
function colourScale(colouring, steps) {
  const rule = COLOURINGS[colouring];
  if (!rule) return {};
  const colorbar = { title: { text: rule.title }, thickness: 12, len: 0.6 };
  return { color: steps.map(rule.value), colorscale: "Viridis", showscale: true, colorbar };
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 */
function selectedStep(view, colours) {
  const points = stepPoints(view, view.run, (step) => escaped(step.text));
  const marked = points.filter(({ step }) => step?.index === view.markedStep);
  /** @type {Look} */
  const look = { color: colours.accent, size: [15, 9], symbol: ["diamond", "diamond"] };
  return trace(view, "selected step", marked, {
    mode: "markers+text",
    textposition: "top center",
    textfont: { size: 14, color: colours.ink },
    hoverinfo: "skip",
    marker: { ...marker(view, look), line: { width: 2, color: colours.ink } },
  });
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 */
export function mapLayout({ run, dimensions, layout }, colours) {
  // Plotly modifies the objects that it receives, so each axis needs its own object.
  const axis = () => ({ showgrid: true, gridcolor: colours.grid, zeroline: false, showticklabels: false, title: "" });
  const scene = {
    xaxis: axis(),
    yaxis: axis(),
    zaxis: axis(),
    uirevision: `${run.model}-${layout}`,
    aspectmode: "cube",
  };
  return {
    showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
    margin: { l: 8, r: 34, t: 34, b: 8 }, // room for the legend above and the tools on the right
    uirevision: `${run.model}-${dimensions}-${layout}`, // keeps zoom and camera while a run grows
    xaxis: axis(),
    yaxis: axis(),
    scene,
    hovermode: "closest",
    dragmode: dimensions === 2 ? "pan" : "orbit",
  };
}
