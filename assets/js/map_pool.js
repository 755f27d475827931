// The candidates of a step on the map: where they lie, and how they collapse onto the vector that was chosen.
import { node, prefersReducedMotion } from "./dom.js";
import { candidateSize } from "./map_traces.js";

/** @typedef {import("./map_series.js").PlacedCandidate} PlacedCandidate */

/** Steps whose candidates are placed with one request, so that they are there when the path is played. */
const STEPS_AHEAD = 16;
const MAX_CHUNKS = 256;
const HOLD_MILLISECONDS = 120;
const FLIGHT_MILLISECONDS = 180;

/** @type {Map<string, MapPosition>} by model and token ids */
const positions = new Map();

/**
 * @param {string} model
 * @param {number[]} tokenIds
 */
const chunkKey = (model, tokenIds) => `${model}:${tokenIds}`;

/**
 * The positions of candidates, which the server computes when they are first needed.
 * @param {PlaceServer | null} server
 * @param {() => void} onarrival
 */
export function createPoolPlaces(server, onarrival) {
  let isWaiting = false;

  /**
   * @param {RunPayload} run
   * @param {number} stepIndex
   */
  const request = async (run, stepIndex) => {
    const steps = run.steps.slice(stepIndex, stepIndex + STEPS_AHEAD);
    const chunks = new Map();
    for (const { token_ids } of steps.flatMap((step) => step.candidates)) {
      const key = chunkKey(run.model, token_ids);
      if (!positions.has(key)) chunks.set(key, token_ids);
    }
    const missing = [...chunks].slice(0, MAX_CHUNKS);
    if (!server || isWaiting || !missing.length) return;
    isWaiting = true;
    try {
      const answer = await server.place_chunks({ model: run.model, chunks: missing.map(([, ids]) => ids) });
      if (!Array.isArray(answer)) return; // the map shows the step without its candidates
      for (const [i, [key]] of missing.entries()) positions.set(key, answer[i]);
    } finally {
      isWaiting = false;
    }
    onarrival();
  };

  /**
   * The candidates of a step that have been placed. Requests the others.
   * @param {RunPayload} run
   * @param {number | null} stepIndex
   * @returns {PlacedCandidate[]}
   */
  const placed = (run, stepIndex) => {
    const step = stepIndex === null ? undefined : run.steps[stepIndex];
    if (!step?.predicted || stepIndex === null) return [];
    const found = step.candidates.flatMap((candidate) => {
      const position = positions.get(chunkKey(run.model, candidate.token_ids));
      return position ? [{ candidate, position }] : [];
    });
    if (found.length < step.candidates.length) request(run, stepIndex);
    return found;
  };

  return { placed };
}

/**
 * Shows once for each step how its candidates collapse onto the chosen vector. The points are elements above the plot,
 * because a style moves them without drawing the figure again.
 * @param {HTMLElement} container of the plot
 * @param {PlotlyElement} plot
 */
export function createFlight(container, plot) {
  const layer = node("div", { class: "calm-flight", "aria-hidden": "true" });
  container.append(layer);
  let flown = "";

  /**
   * @param {string} step identifies the step
   * @param {PlacedCandidate[]} pool
   * @param {MapPosition | undefined} target
   * @param {"plane" | "principal"} name of the coordinates
   */
  const fly = (step, pool, target, name) => {
    if (step === flown || !target || !pool.length) return;
    flown = step;
    layer.replaceChildren();
    if (prefersReducedMotion()) return;
    const end = pixels(plot, target[name]);
    for (const { candidate, position } of pool) {
      const size = candidateSize(candidate.count);
      const start = pixels(plot, position[name]);
      const point = node("i", { style: `width:${size}px;height:${size}px;left:${start[0]}px;top:${start[1]}px` });
      const shift = `translate(${end[0] - start[0]}px, ${end[1] - start[1]}px)`;
      const options = { duration: FLIGHT_MILLISECONDS, delay: HOLD_MILLISECONDS, easing: "ease-in" };
      layer.append(point);
      point.animate([{ transform: "none" }, { transform: shift }], options).onfinish = () => point.remove();
    }
  };

  return { fly };
}

/**
 * Where a point of the plane lies in the plot's element.
 * @param {PlotlyElement} plot
 * @param {number[]} at
 */
function pixels(plot, at) {
  const { xaxis, yaxis } = plot._fullLayout;
  return [xaxis.l2p(at[0]) + xaxis._offset, yaxis.l2p(at[1]) + yaxis._offset];
}
