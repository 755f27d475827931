// The address contains the inputs and the open tab: they survive a reload, and the address can be shared.
import { config } from "./config.js";

const opened = new URL(location.href).searchParams; // read before the first tab reports itself as open
let restored = false; // until then the inputs hold their defaults, which must not overwrite the address

/**
 * @param {string} name
 * @param {unknown} value
 */
function setParameter(name, value) {
  const url = new URL(location.href);
  url.searchParams.set(name, String(value ?? ""));
  try {
    history.replaceState(history.state, "", url);
  } catch {
    // Embedded pages may forbid it, and some browsers limit how often it is called. The inputs work without it.
  }
  // Only the known parent gets the message: it contains the prompt.
  const { parent_origin } = config();
  if (parent_origin && window.parent !== window)
    window.parent.postMessage({ queryString: url.searchParams.toString() }, parent_origin);
}

/**
 * Writes inputs to the address.
 * @param {string[]} names
 * @param {unknown[]} values
 */
export function saveInputs(names, values) {
  if (!restored) return;
  names.forEach((name, i) => {
    setParameter(name, values[i]);
  });
}

/**
 * The values of the inputs from the address. The present value stays if the address has none, no number for a number
 * box, or none of the choices; a number outside of its bounds becomes the nearest bound.
 * @param {string[]} names
 * @param {unknown[]} values
 * @param {{ min?: number, max?: number, choices?: unknown[] }[]} accepted by each input
 * @returns {unknown[]}
 */
export function restoreInputs(names, values, accepted) {
  restored = true;
  return names.map((name, i) => {
    const text = opened.get(name);
    const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY, choices } = accepted[i];
    if (text === null || (choices && !choices.includes(text))) return values[i];
    if (typeof values[i] !== "number") return text;
    if (!text.trim() || !Number.isFinite(Number(text))) return values[i];
    return Math.min(Math.max(Number(text), min), max);
  });
}

/** The tab that the address asked for when the page was opened, else the first. */
export function requestedTab() {
  const { tabs } = config();
  const tab = opened.get("tab") ?? "";
  return tabs.includes(tab) ? tab : tabs[0];
}

/** @param {string} tab */
export function saveTab(tab) {
  if (restored) setParameter("tab", tab);
}
