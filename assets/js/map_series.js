// Parts of the traces of the vector map: coordinates in the chosen layout, markers and lines.
import { visible } from "./dom.js";

/**
 * The state that determines what the map shows.
 * @typedef {object} MapView
 * @property {RunPayload} run
 * @property {number | null} markedStep the step that is marked
 * @property {number | null} currentStep the step of a detail view (`store.currentStep`)
 * @property {2 | 3} dimensions
 * @property {"umap" | "principal" | "own"} layout
 * @property {string} colouring "", "step", "distance" or "frequency"
 * @property {boolean} showEncoded
 * @property {boolean} showWhole the whole path instead of its last steps
 * @property {boolean} showChunks
 * @property {boolean} compact
 * @property {RunPayload[]} otherRuns
 * @property {Cloud | null} cloud
 * @property {PlacedCandidate[]} pool
 * @property {MapSummary} summary
 * @property {MapChunks | null} chunks null until it is needed and fetched
 * @property {FittedMap | null} fit
 * @property {number[]} matches indices of the chunks that the search has found
 * @property {number | null} chosen index of the chunk whose neighbours are listed
 * @property {{ x: number[], y: number[] }} range of the axes
 * @property {{ width: number, height: number }} size of the plot in pixels
 */

/**
 * A candidate of a step, where the vector of its chunk lies.
 * @typedef {{ candidate: CandidatePayload, position: MapPosition }} PlacedCandidate
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
 * Plotly reads "<" as the start of a tag.
 * @param {string} text
 */
export function escaped(text) {
  return visible(text).replace(/</g, "&lt;");
}

/**
 * @param {MapView} view
 * @returns {"plane" | "space" | "principal"} the name of the layout's coordinates in a `MapPosition`
 */
export function coordinateName({ layout, dimensions }) {
  return dimensions === 2 ? planeName(layout) : layout === "principal" ? "principal" : "space";
}

/**
 * @param {string} layout
 * @returns {"plane" | "principal"} the name of the layout's coordinates in the plane
 */
export function planeName(layout) {
  return layout === "principal" ? "principal" : "plane";
}

/**
 * @param {MapView} view
 * @param {MapPosition | undefined} position
 * @returns {number[] | null} its coordinates in the layout; null in a map of the visitor's own
 */
export function coordinates(view, position) {
  return position && view.layout !== "own" ? position[coordinateName(view)] : null;
}

/**
 * @param {MapView} view
 * @param {string} name
 * @param {Point[]} points
 * @param {PlotlyAttributes} attributes
 * @returns {PlotlyAttributes}
 */
export function trace(view, name, points, attributes) {
  const flat = view.dimensions === 2;
  const axes = flat ? ["x", "y"] : ["x", "y", "z"];
  const columns = Object.fromEntries(axes.map((axis, i) => [axis, points.map(({ at }) => at[i])]));
  const text = points.map((point) => point.label);
  return { type: flat ? "scatter" : "scatter3d", name, text, ...columns, ...attributes };
}

/**
 * @param {MapView} view
 * @param {Look} look
 */
export function marker(view, { color, size, symbol = ["circle", "circle"] }) {
  const kind = view.dimensions === 2 ? 0 : 1;
  // Points in space have an outline of their own colour: Plotly blends any other one with what lies behind.
  return { size: size[kind], symbol: symbol[kind], color, ...(kind ? { line: { width: 0 } } : {}) };
}

/**
 * @param {MapView} view
 * @param {string} name
 * @param {Point[]} points
 * @param {Look} look
 * @param {string} hovertemplate
 */
export function path(view, name, points, look, hovertemplate) {
  const line = { color: look.color, width: view.dimensions === 2 ? 1.5 : 3, dash: look.dash ?? "solid" };
  return trace(view, name, points, { mode: "lines+markers", line, marker: marker(view, look), hovertemplate });
}

/**
 * A mixture of two colours, opaque: translucent points hide each other in WebGL.
 * @param {string} colour
 * @param {string} paper
 * @param {number} share of the first colour
 */
export function mixed(colour, paper, share) {
  const [one, other] = [colour, paper].map(channels);
  return `rgb(${one.map((value, i) => Math.round(share * value + (1 - share) * other[i])).join(",")})`;
}

/**
 * @param {string} colour
 * @param {number} opacity
 */
export function faded(colour, opacity) {
  return `rgba(${channels(colour).join(",")},${opacity})`;
}

/** @type {Map<string, number[]>} */
const parsedColours = new Map();
const canvas = document.createElement("canvas");

/**
 * @param {string} colour any CSS colour
 * @returns {number[]} red, green and blue, 0 to 255
 */
function channels(colour) {
  const known = parsedColours.get(colour);
  if (known) return known;
  canvas.width = canvas.height = 1;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const parsed = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  parsedColours.set(colour, parsed);
  return parsed;
}
