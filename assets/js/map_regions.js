// What the map shows of all training chunks: their density as contours, and the labels of its regions.
import { coordinateName, escaped, faded, planeName, trace } from "./map_series.js";

/** @typedef {import("./map_series.js").MapView} MapView */
/** @typedef {import("./map_series.js").Point} Point */

/** Contour lines at these values of the density's square root, 0 to 100. */
const CONTOURS = { start: 12, end: 92, size: 16 };
const FONT_SIZE = 12;
const LABEL_HEIGHT = 18;
const LABEL_MARGIN = 10;
const MAX_LABELS = 40;
const MAX_COMPACT_LABELS = 10;
const MAX_LABELS_IN_SPACE = 8;

/**
 * @param {MapView} view
 * @returns {Density | null} null where a layout has no density: in space, and on a map of the visitor's own
 */
function densityOf({ summary, layout, dimensions }) {
  return layout === "own" || dimensions === 3 ? null : summary.density[planeName(layout)];
}

/**
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
export function densityTraces(view, colours) {
  const density = densityOf(view);
  if (!density) return [];
  const cells = density.values.length - 1;
  const axis = (/** @type {number[]} */ [first, last]) => ({ start: first, step: (last - first) / cells });
  const [x, y] = [axis(density.x), axis(density.y)];
  return [
    {
      type: "contour",
      name: "density of training chunks",
      z: density.values,
      x0: x.start,
      dx: x.step,
      y0: y.start,
      dy: y.step,
      contours: { ...CONTOURS, coloring: "fill" },
      autocontour: false,
      colorscale: [
        [0, faded(colours.quiet, 0)],
        [1, faded(colours.quiet, 0.28)],
      ],
      zmin: 0,
      zmax: 100,
      line: { width: 0.5, color: faded(colours.quiet, 0.4) },
      showscale: false,
      showlegend: false,
      hoverinfo: "skip",
    },
  ];
}

/**
 * The labels of the most important regions that have room in the part of the map that is shown.
 * @param {MapView} view
 * @param {Palette} colours
 * @returns {PlotlyAttributes[]}
 */
export function regionTraces(view, colours) {
  if (view.layout === "own") return [];
  const name = coordinateName(view);
  const points = view.summary.regions.map((region) => ({ at: region[name], label: escaped(region.label) }));
  const shown = view.dimensions === 2 ? spaced(points, view) : distinct(points).slice(0, MAX_LABELS_IN_SPACE);
  return [
    trace(view, "regions", shown, {
      mode: "text",
      textfont: { size: FONT_SIZE, color: colours.quiet },
      hoverinfo: "skip",
      showlegend: false,
    }),
  ];
}

/** @param {Point[]} points */
function distinct(points) {
  return points.filter(({ label }, i) => points.findIndex((other) => other.label === label) === i);
}

/**
 * Keeps the labels, in their order, that overlap none of the labels before them and lie within the plot.
 * @param {Point[]} points
 * @param {MapView} view
 */
function spaced(points, { range, size, compact }) {
  const scale = [size.width / (range.x[1] - range.x[0]), size.height / (range.y[1] - range.y[0])];
  /** @type {{ left: number, right: number, y: number, label: string }[]} */
  const boxes = [];
  return points.filter(({ at, label }) => {
    if (boxes.length >= (compact ? MAX_COMPACT_LABELS : MAX_LABELS)) return false;
    const [x, y] = [(at[0] - range.x[0]) * scale[0], (at[1] - range.y[0]) * scale[1]];
    const half = textWidth(label) / 2 + LABEL_MARGIN;
    const box = { left: x - half, right: x + half, y, label };
    const isInside = box.left > 0 && box.right < size.width && y > LABEL_HEIGHT && y < size.height - LABEL_HEIGHT;
    const isFree = boxes.every(
      (other) =>
        other.label !== label &&
        (box.left > other.right || box.right < other.left || Math.abs(other.y - y) > LABEL_HEIGHT),
    );
    if (isInside && isFree) boxes.push(box);
    return isInside && isFree;
  });
}

const context = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));

/** @param {string} text */
function textWidth(text) {
  context.font = `${FONT_SIZE}px system-ui, sans-serif`;
  return context.measureText(text).width;
}
