// The visible part of the map in the plane: all of it at first, then the part that the visitor zooms or drags to.
import { planeName } from "./map_series.js";

/** Below this share of the map's width, the map shows its training chunks. */
const ZOOMED = 0.5;

/** @typedef {{ x: number[], y: number[] }} Range */

/** @param {PlotlyElement} plot */
export function createMapWindow(plot) {
  /** @type {WeakMap<object, Map<string, Range>>} what the visitor has zoomed to on each map, in each layout */
  const zooms = new WeakMap();
  /** @type {Map<string, Range>} those of the map that is shown */
  let ranges = new Map();
  let current = "";

  /**
   * Each map has coordinates of its own: those of the models, and each fit of the visitor's own.
   * @param {string} layout
   * @param {MapSummary} summary
   * @param {FittedMap | null} fit
   */
  const rangesOf = (layout, summary, fit) => {
    const shown = layout === "own" && fit ? fit : summary;
    const known = zooms.get(shown) ?? new Map();
    zooms.set(shown, known);
    return known;
  };

  /**
   * @param {string} layout
   * @param {MapSummary} summary
   * @param {FittedMap | null} fit
   * @returns {Range}
   */
  const whole = (layout, summary, fit) => {
    if (layout === "own" && fit) return extent(fit.positions);
    const { x, y } = summary.density[planeName(layout)];
    return { x, y };
  };

  return {
    /**
     * @param {string} layout
     * @param {MapSummary} summary
     */
    isZoomed(layout, summary) {
      const range = rangesOf(layout, summary, null).get(layout);
      const { x } = whole(layout, summary, null);
      return range !== undefined && layout !== "own" && range.x[1] - range.x[0] < ZOOMED * (x[1] - x[0]);
    },
    /**
     * @param {string} layout
     * @param {MapSummary} summary
     * @param {FittedMap | null} fit
     */
    shape(layout, summary, fit) {
      current = layout;
      ranges = rangesOf(layout, summary, fit);
      const range = ranges.get(layout) ?? whole(layout, summary, fit);
      return { range, size: { width: plot.clientWidth, height: plot.clientHeight } };
    },
    /** @param {() => void} render */
    listen(render) {
      plot.on("plotly_relayout", (change) => {
        if (!Object.keys(change).some((key) => /^[xy]axis/.test(key))) return; // a turn in space, or a new size
        const { xaxis, yaxis } = plot.layout ?? {};
        if (!xaxis?.range || xaxis.autorange) return;
        ranges.set(current, { x: [...xaxis.range], y: [...yaxis.range] });
        render();
      });
      plot.on("plotly_doubleclick", () => {
        ranges.delete(current);
        render();
      });
    },
  };
}

/**
 * @param {number[][]} positions
 * @returns {Range}
 */
function extent(positions) {
  const [x, y] = [0, 1].map((i) => {
    const values = positions.map((position) => position[i]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = 0.06 * (high - low);
    return [low - margin, high + margin];
  });
  return { x, y };
}
