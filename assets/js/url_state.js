// The address contains the inputs and the open tab: they survive a reload, and the address can be shared. The address of
// a run also names the button that starts it, so that the page repeats the run when it opens.
import { config } from "./config.js";
import { setInputs } from "./inputs.js";

const opened = new URL(location.href).searchParams; // read before the first tab reports itself as open
let restored = false; // until then the inputs hold their defaults, which must not overwrite the address
/** @type {Map<string, string>} the value of each input before the address was read */
const defaults = new Map();
/** Servers and proxies refuse longer addresses, and would refuse the page when it is loaded again. */
const MAX_ADDRESS = 7000;
const RUN = "run";
const ORIGIN = "origin";

/**
 * The address of the page with other parameters. Null removes a parameter, and so does a value for which the address has
 * no room.
 * @param {Record<string, string | null>} parameters
 */
function changedAddress(parameters) {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null) url.searchParams.set(name, value);
    if (value === null || url.href.length > MAX_ADDRESS) url.searchParams.delete(name);
  }
  return url;
}

/** @param {Record<string, string | null>} parameters as for `changedAddress` */
function setParameters(parameters) {
  const url = changedAddress(parameters);
  if (url.href === location.href) return;
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
  setInputs(names, values);
  const present = new URL(location.href).searchParams;
  const texts = names.map((name, i) => [name, String(values[i] ?? "")]);
  setParameters(Object.fromEntries(texts.filter(([name, text]) => present.has(name) || defaults.get(name) !== text)));
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
  names.forEach((name, i) => {
    defaults.set(name, String(values[i] ?? ""));
  });
  const found = names.map((name, i) => {
    const text = opened.get(name);
    const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY, choices } = accepted[i];
    if (text === null) return values[i];
    if (Array.isArray(values[i])) {
      const chosen = text.split(",").filter((choice) => !choices || choices.includes(choice));
      return chosen.length ? chosen : values[i];
    }
    if (choices && !choices.includes(text)) return values[i];
    if (typeof values[i] !== "number") return text.replace(/\n$/, "");
    if (!text.trim() || !Number.isFinite(Number(text))) return values[i];
    return Math.min(Math.max(Number(text), min), max);
  });
  setInputs(names, found);
  return found;
}

/** The tab that the address asked for when the page was opened, else the first. */
export function requestedTab() {
  const { tabs } = config();
  const tab = opened.get("tab") ?? "";
  return tabs.includes(tab) ? tab : tabs[0];
}

/** @param {string} tab */
export function saveTab(tab) {
  if (restored) setParameters({ tab });
}

// Addresses of runs

/**
 * The address of a result: its inputs, its tab and the button that repeats it. Null if it would be too long.
 * @param {{ tab: string, button: string, inputs: Record<string, unknown> }} result
 * @param {RunOrigin} [origin] of a run with branches
 */
export function addressOf({ tab, button, inputs }, origin) {
  const url = new URL(location.pathname, location.href);
  for (const [name, value] of Object.entries({ tab, ...inputs })) url.searchParams.set(name, String(value));
  for (const [name, value] of Object.entries(runParameters(button, origin)))
    if (value !== null) url.searchParams.set(name, value);
  return url.href.length > MAX_ADDRESS ? null : url.href;
}

/**
 * Makes the address of the page the address of a result. If the inputs have changed since, or the address has no room for
 * the result, it no longer names the run.
 * @param {{ button: string, inputs: Record<string, unknown> }} result
 * @param {boolean} isShown whether the inputs of the page are those of the result
 * @param {RunOrigin} [origin] of a run with branches
 */
export function saveRun({ button, inputs }, isShown, origin) {
  if (!restored) return;
  const texts = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, String(value)]));
  const parameters = { ...texts, ...runParameters(button, origin) };
  const { searchParams } = changedAddress(parameters);
  const hasRoom = Object.entries(parameters).every(([name, value]) => searchParams.get(name) === value);
  if (isShown && hasRoom) setParameters(parameters);
  else if (new URL(location.href).searchParams.get(RUN) === button) setParameters({ [RUN]: null, [ORIGIN]: null });
}

/**
 * @param {string} button
 * @param {RunOrigin} [origin]
 * @returns {Record<string, string | null>}
 */
function runParameters(button, origin) {
  const { options = null, branches = [] } = origin ?? {};
  return { [RUN]: button, [ORIGIN]: branches.length ? JSON.stringify({ options, branches }) : null };
}

/** The parameters with which the page was opened, if they ask to press this button; else null. */
export function openedRun(/** @type {string} */ button) {
  return opened.get(RUN) === button ? opened : null;
}

/**
 * The generated run that the page was opened with; null if there is none. The server checks it.
 * @returns {RepeatRequest | null}
 */
export function openedOrigin() {
  const parameters = openedRun("generate");
  if (!parameters) return null;
  const names = { temperature: "t", max_new_tokens: "length", pool_size: "pool", sampler: "sampler", seed: "seed" };
  const given = Object.entries(names).flatMap(([name, short]) =>
    parameters.has(short) ? [[name, parameters.get(short)]] : [],
  );
  const request = {
    model: parameters.get("model") ?? "",
    prompt: parameters.get("prompt") ?? "",
    options: Object.fromEntries(given),
    branches: [],
    samples: Number(parameters.get("samples") ?? 1),
  };
  try {
    return { ...request, ...JSON.parse(parameters.get(ORIGIN) ?? "{}") };
  } catch {
    return request; // without the branches, which cannot be read
  }
}
