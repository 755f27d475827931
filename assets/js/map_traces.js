// The traces and the layout of the vector map.
import { config } from "./config.js";
import { plural } from "./dom.js";
import {
  arrows,
  encodedTraces,
  predictedTrace,
  promptTraces,
  segmentTraces,
  selectedTrace,
  stepPoints,
} from "./map_path.js";
import { densityTraces, regionTraces } from "./map_regions.js";
import { coordinateName, coordinates, escaped, marker, mixed, path, trace } from "./map_series.js";

/** @typedef {import("./map_series.js").MapView} MapView */
/** @typedef {import("./map_series.js").Look} Look */

const MAX_OTHER_RUNS = 3;
const OTHER_DASHES = ["dash", "dot", "dashdot"];
const OTHER_SYMBOLS = ["triangle-up", "cross", "x"];
/** More points in space hide the path. */
const MAX_CHUNKS_IN_SPACE = 1200;
/** Names of the traces whose points stand for training chunks; their custom data are indices on the map. */
export const CHUNKS = "training chunks";
export const MATCHES = "matching chunks";
/** Name of the trace of the current step's candidates. */
const POOL = "candidates of this step";

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
export function mapTraces(view, colours) {
  return [
    ...chunkTraces(view, colours),
    ...densityTraces(view, colours),
    ...promptTraces(view, colours),
    ...otherPaths(view, colours),
    ...encodedTraces(view, colours),
    ...cloudTraces(view, colours),
    ...poolTraces(view, colours),
    ...segmentTraces(view, colours),
    predictedTrace(view, colours),
    selectedTrace(view, colours),
    ...matchTraces(view, colours),
    ...regionTraces(view, colours),
  ];
}

/**
 * @param {MapView} view
 * @returns {{ positions: number[][], texts: string[] } | null} the training chunks in the layout
 */
function trainingChunks(view) {
  if (view.layout === "own") return view.fit;
  return view.chunks && { positions: view.chunks[coordinateName(view)], texts: view.chunks.texts };
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
function chunkTraces(view, colours) {
  const chunks = view.showChunks ? trainingChunks(view) : null;
  if (!chunks) return [];
  const flat = view.dimensions === 2;
  const positions = flat ? chunks.positions : chunks.positions.slice(0, MAX_CHUNKS_IN_SPACE);
  const points = positions.map((at, i) => ({ at, label: escaped(chunks.texts[i]) }));
  const color = flat ? colours.cloud : mixed(colours.quiet, colours.paper, 0.5);
  return [
    trace(view, CHUNKS, points, {
      type: flat ? "scattergl" : "scatter3d",
      mode: "markers",
      marker: marker(view, { color, size: [4, 2] }),
      customdata: points.map((_, i) => i),
      hovertemplate: "“%{text}”<br>training chunk<extra></extra>",
    }),
  ];
}

/**
 * The chunks that the search has found, and the one whose neighbours are listed.
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
function matchTraces(view, colours) {
  const chunks = view.layout === "own" ? null : trainingChunks(view);
  const indices = view.chosen === null ? view.matches : [...new Set([...view.matches, view.chosen])];
  if (!chunks || !indices.length) return [];
  const points = indices.map((i) => ({ at: chunks.positions[i], label: escaped(chunks.texts[i]) }));
  /** @type {Look} */
  const look = { color: colours.second, size: [9, 5], symbol: ["circle-open", "circle"] };
  const size = indices.map((i) => look.size[view.dimensions === 2 ? 0 : 1] * (i === view.chosen ? 1.7 : 1));
  const line = { width: view.dimensions === 2 ? 2 : 0 };
  return [
    trace(view, MATCHES, points, {
      mode: "markers",
      marker: { ...marker(view, look), size, line },
      customdata: indices,
      hovertemplate: "“%{text}”<br>training chunk<extra></extra>",
    }),
  ];
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
function otherPaths(view, colours) {
  return view.otherRuns.slice(-MAX_OTHER_RUNS).map((run, i) => {
    const points = stepPoints(view, run, "predicted", (step) => escaped(step.text));
    /** @type {Look} */
    const look = {
      color: colours.others[i],
      size: [6, 3],
      symbol: [OTHER_SYMBOLS[i], "circle"],
      dash: OTHER_DASHES[i],
    };
    const name = `earlier run, seed ${run.options.seed}`;
    return path(view, name, points, look, "“%{text}”<extra>%{fullData.name}</extra>");
  });
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {Look} of samples and candidates
 */
function sampleLook({ dimensions }, colours) {
  const color = dimensions === 2 ? colours.accent : mixed(colours.accent, colours.paper, 0.6);
  return { color, size: [6, 3], symbol: ["circle-open", "circle"] };
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
function cloudTraces(view, colours) {
  const { cloud } = view;
  if (!cloud || view.layout === "own") return [];
  const points = cloud.positions.flatMap((position, i) => {
    const at = coordinates(view, position);
    return at ? [{ at, label: escaped(cloud.texts[i]) }] : [];
  });
  const look = sampleLook(view, colours);
  const opacity = view.dimensions === 2 ? 0.6 : 1;
  return [
    trace(view, `${config().fresh_samples} samples at this step`, points, {
      mode: "markers",
      marker: { ...marker(view, look), opacity },
      hovertemplate: "“%{text}”<extra>a sample</extra>",
    }),
  ];
}

/**
 * Diameter of the point of a candidate; its area grows with the number of samples.
 * @param {number} count
 */
export function candidateSize(count) {
  return Math.min(26, 6 + 3 * Math.sqrt(count));
}

/**
 * The candidates among the samples of the current step, each where the vector of its chunk lies.
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
function poolTraces(view, colours) {
  const points = view.pool.flatMap(({ candidate, position }) => {
    const at = coordinates(view, position);
    const label = `“${escaped(candidate.text)}”<br>${plural(candidate.count, "sample")}`;
    return at ? [{ at, label }] : [];
  });
  if (!points.length) return [];
  const flat = view.dimensions === 2;
  const size = view.pool.map(({ candidate }) => candidateSize(candidate.count) * (flat ? 1 : 0.5));
  const look = sampleLook(view, colours);
  return [
    trace(view, POOL, points, {
      mode: "markers",
      marker: { ...marker(view, look), size, opacity: flat ? 0.75 : 1 },
      hovertemplate: "%{text}<extra>candidate</extra>",
    }),
  ];
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 */
export function mapLayout(view, colours) {
  const { run, dimensions, layout, compact, range } = view;
  const grid = mixed(colours.quiet, colours.paper, 0.3);
  // Plotly modifies the objects that it receives, so each axis needs its own object. Coordinates of UMAP mean nothing.
  const axis = (/** @type {number} */ component) => ({
    showgrid: dimensions === 3,
    gridcolor: grid,
    zeroline: false,
    showticklabels: false,
    ticks: "",
    showspikes: false,
    title: layout === "principal" && !compact ? { text: `principal component ${component}` } : { text: "" },
  });
  const [right, bottom] = [compact ? 4 : 34, layout === "principal" && !compact ? 26 : 4];
  const scene = {
    uirevision: `${run.model}-${layout}`,
    aspectmode: "cube",
    camera: { eye: { x: 1, y: 1, z: 0.8 } },
  };
  return {
    showlegend: !compact,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
    margin: { l: bottom, r: right, t: compact ? 4 : 34, b: bottom }, // room for the legend above and the tools on the right
    uirevision: `${run.model}-${dimensions}-${layout}`, // keeps zoom and camera while a run grows
    ...(dimensions === 2
      ? { xaxis: { ...axis(1), range: [...range.x] }, yaxis: { ...axis(2), range: [...range.y] } }
      : { scene: { ...scene, xaxis: axis(1), yaxis: axis(2), zaxis: axis(3) } }),
    annotations: arrows(view, colours),
    hovermode: "closest",
    dragmode: dimensions === 2 ? "pan" : "orbit",
  };
}
