// The files of the map of each model: a small summary, and the texts and positions of the training chunks.
import { config } from "./config.js";

/** @type {Map<string, unknown>} the content of a file by its address; null while it is fetched */
const contents = new Map();

/**
 * The content of a JSON file; null until it has arrived.
 * @param {string | undefined} url
 * @param {() => void} onload
 */
function content(url, onload) {
  if (url && !contents.has(url)) {
    contents.set(url, null);
    fetch(url)
      .then((response) => response.json())
      .then((value) => {
        contents.set(url, value);
        onload();
      })
      .catch(() => contents.delete(url)); // the next render tries again
  }
  return url ? (contents.get(url) ?? null) : null;
}

/** @param {string} model */
export function hasMap(model) {
  return model in config().map_urls;
}

/** The models that have a map, the default one first. */
export function mappedModels() {
  return Object.keys(config().map_urls);
}

/**
 * @param {string} model
 * @param {() => void} onload
 */
export function mapSummary(model, onload) {
  return /** @type {MapSummary | null} */ (content(config().map_urls[model]?.summary, onload));
}

/**
 * @param {string} model
 * @param {() => void} onload
 */
export function mapChunks(model, onload) {
  return /** @type {MapChunks | null} */ (content(config().map_urls[model]?.chunks, onload));
}

/**
 * A prediction error beside what is usual for the model, once that has been fetched.
 * @param {string} model
 * @param {number} distance
 * @param {() => void} onload
 */
export function errorMessage(model, distance, onload) {
  const usual = mapSummary(model, onload)?.prediction_error;
  const range = usual ? ` (typical ${usual.low.toFixed(2)} to ${usual.high.toFixed(2)})` : "";
  return `prediction error ${distance.toFixed(2)}${range}`;
}
