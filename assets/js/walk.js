// Moves the vector of a chunk through latent space and shows the chunk that it decodes to at each point.
import { config } from "./config.js";
import { node, visible } from "./dom.js";
import { whenShown } from "./figures.js";
import { answerOf } from "./server.js";

/**
 * @param {HTMLElement} target
 * @param {ReconstructionServer} server
 */
export function createWalk(target, server) {
  const route = node("select", { class: "calm-select", "aria-label": "where to move the vector" });
  const slider = node("input", {
    type: "range",
    class: "calm-range",
    "aria-label": "how far to move the vector",
    disabled: true,
  });
  const status = node("p", { class: "calm-note", role: "status" });
  const decoded = node("p", { class: "calm-walked" });
  const nearest = node("ol", { class: "calm-near" });
  target.append(
    node("h2", {}, "Move the vector"),
    node("div", { class: "calm-row" }, route, slider),
    status,
    decoded,
    node("h3", {}, "Nearest training chunks, with their distances"),
    nearest,
  );

  /** @type {{ model: string, chunks: ChunkPayload[], index: number } | null} */
  let start = null;
  /** @type {Walk | null} */
  let walk = null;
  let requests = 0;
  /** @type {object | null} the `start` of the last request */
  let requested = null;

  const render = () => {
    if (!start || !walk) return;
    const position = Number(slider.value);
    status.textContent = offsetText(route.value, walk.offsets[position]);
    decoded.replaceChildren("decodes to ", ...decodedTokens(walk.points[position], start.chunks[start.index]));
    nearest.replaceChildren(...walk.points[position].neighbours.map(neighbourItem));
  };

  const request = async () => {
    if (!start) return;
    const number = ++requests;
    requested = start;
    walk = null; // the previous walk may belong to another chunk
    slider.disabled = true;
    decoded.replaceChildren();
    nearest.replaceChildren();
    const answer = await answerOf(server.walk(walkRequest(start, route.value)));
    if (number !== requests) return; // another chunk or route was selected meanwhile
    if ("error" in answer) {
      requested = null;
      status.textContent = answer.error;
      return;
    }
    walk = answer;
    slider.disabled = false;
    slider.min = "0";
    slider.max = String(walk.offsets.length - 1);
    slider.value = String(walk.offsets.findIndex((offset) => Math.abs(offset) < 1e-6));
    render();
  };

  route.addEventListener("change", request);
  slider.addEventListener("input", render);
  return {
    /**
     * @param {string} model
     * @param {ChunkPayload[]} chunks
     * @param {number} index of the chunk that is moved
     */
    start(model, chunks, index) {
      start = { model, chunks, index };
      const before = route.value;
      route.replaceChildren(...routeOptions(chunks, index));
      if ([...route.options].some((option) => option.value === before)) route.value = before;
      if (target.offsetParent) request();
      else whenShown(target, () => requested === start || request()); // the walk costs time on the server
    },
  };
}

/**
 * @param {ChunkPayload[]} chunks
 * @param {number} index
 */
function routeOptions(chunks, index) {
  const directions = Array.from({ length: config().walk_directions }, (_, i) =>
    node("option", { value: `along ${i}` }, `principal component ${i + 1}`),
  );
  const targets = chunks.map((chunk, i) =>
    i === index ? null : node("option", { value: `to ${i}` }, `to chunk ${i + 1}, “${visible(chunk.text)}”`),
  );
  return [
    node("optgroup", { label: "along a principal component" }, ...directions),
    node("optgroup", { label: "towards another chunk" }, ...targets),
  ];
}

/**
 * @param {{ model: string, chunks: ChunkPayload[], index: number }} start
 * @param {string} route "along" or "to", and a number
 * @returns {WalkRequest}
 */
function walkRequest({ model, chunks, index }, route) {
  const [kind, number] = route.split(" ");
  const target = kind === "to" ? chunks[Number(number)].mean : null;
  return { model, mean: chunks[index].mean, direction: target ? null : Number(number), target };
}

/**
 * @param {string} route
 * @param {number} offset
 */
function offsetText(route, offset) {
  if (route.startsWith("to ")) return `${Math.round(100 * offset)} % of the way`;
  return `${offset > 0 ? "+" : ""}${offset.toFixed(1)} standard deviations of the training chunks`;
}

/**
 * @param {WalkPoint} point
 * @param {ChunkPayload} chunk
 */
function decodedTokens({ tokens, token_ids }, chunk) {
  return tokens.map((token, i) => {
    const changed = token_ids[i] === chunk.token_ids[i] ? "" : " calm-wrong";
    return node("span", { class: `calm-token${changed}` }, visible(token));
  });
}

/** @param {Neighbour} neighbour */
function neighbourItem({ text, distance }) {
  const figure = node("span", { class: "figure" }, distance.toFixed(2));
  return node("li", {}, node("span", {}, `“${visible(text)}”`), figure);
}
