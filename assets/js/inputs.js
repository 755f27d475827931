// The present values of the page's inputs, by their names in the address of the page.
import { createSubscriptions } from "./subscriptions.js";

/** @type {Map<string, unknown>} */
const present = new Map();
const subscriptions = createSubscriptions();

/**
 * @param {string[]} names
 * @param {unknown[]} values
 */
export function setInputs(names, values) {
  names.forEach((name, i) => {
    present.set(name, values[i]);
  });
  subscriptions.notify();
}

/**
 * Calls back whenever an input changes, as long as the element is on the page.
 * @param {HTMLElement} element
 * @param {() => void} listener
 */
export function onInputs(element, listener) {
  subscriptions.add(element, listener);
}

/**
 * Whether an input is known and holds another value. A prompt may lack the end of its line, which a text box drops.
 * @param {string} name
 * @param {unknown} value
 */
export function differs(name, value) {
  if (!present.has(name)) return false;
  const [one, other] = [plain(present.get(name)), plain(value)];
  return one !== other && !(one !== "" && other !== "" && Number(one) === Number(other));
}

/** @param {unknown} value */
function plain(value) {
  return String(value ?? "").replace(/\n$/, "");
}

/** @param {string} name */
export function inputValue(name) {
  return String(present.get(name) ?? "");
}
