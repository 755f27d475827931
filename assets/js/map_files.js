// The files of the map of each model: a small summary, and the texts and positions of the training chunks.
import { config } from "./config.js";

/** @type {Map<string, unknown>} the content of a file by its address */
const contents = new Map();
/** @type {Map<string, Set<() => void>>} the callbacks for each file that is being fetched, by its address */
const waiting = new Map();

/**
 * The content of a JSON file; null until it has arrived. Then all callbacks for the file are called.
 * @param {string | undefined} url
 * @param {() => void} onload
 */
function content(url, onload) {
  if (!url) return null;
  if (contents.has(url)) return contents.get(url);
  const callbacks = waiting.get(url) ?? new Set();
  callbacks.add(onload);
  if (waiting.has(url)) return null;
  waiting.set(url, callbacks);
  fetch(url)
    .then((response) => (response.ok ? response.json() : Promise.reject(response.status)))
    .then((value) => {
      contents.set(url, value);
      for (const callback of callbacks) callback();
    })
    .catch(() => {}) // the next render tries again
    .finally(() => waiting.delete(url));
  return null;
}

/** @type {Record<string, MapUrls>} the maps that were fitted since the page was opened, by model */
const fitted = {};

/**
 * The model has a map from now on, or another one.
 * @param {string} model
 * @param {MapUrls} urls
 */
export function addMap(model, urls) {
  fitted[model] = urls;
}

/** @param {string} model */
const urlsOf = (model) => fitted[model] ?? config().map_urls[model];

/** @param {string} model */
export function hasMap(model) {
  return urlsOf(model) !== undefined;
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
  return /** @type {MapSummary | null} */ (content(urlsOf(model)?.summary, onload));
}

/**
 * @param {string} model
 * @param {() => void} onload
 */
export function mapChunks(model, onload) {
  return /** @type {MapChunks | null} */ (content(urlsOf(model)?.chunks, onload));
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
