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
 * The values of the inputs from the address; if it has none, or no number for a number box, the present value.
 * @param {string[]} names
 * @param {unknown[]} values
 * @returns {unknown[]}
 */
export function restoreInputs(names, values) {
  restored = true;
  return names.map((name, i) => {
    const text = opened.get(name);
    if (text === null) return values[i];
    if (typeof values[i] !== "number") return text;
    return text.trim() && Number.isFinite(Number(text)) ? Number(text) : values[i];
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
