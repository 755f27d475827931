// The actions of the guided tour's steps on the page. An action returns the part of the page to look at, and throws an
// error if the page did not do what the step shows.
import { config } from "./config.js";
import { delay, find, prefersReducedMotion, waitFor } from "./dom.js";
import { hasMap } from "./map_files.js";
import { openSheet } from "./sheet.js";
import { store } from "./store.js";

const EXAMPLE = "Nobody in the whole wide land was as brave as Mia, not even the king.";
const NOISE = 0.3;
const TEMPERATURES = [1, 0.8, 0.65, 0.5, 0.4, 0.33];
const MILLISECONDS_PER_TEMPERATURE = 350;
/** A model may have to be loaded first. */
const MAX_SECONDS = 120;

/**
 * A part of the page, once its tab shows it.
 * @param {string} selector
 */
function shown(selector) {
  const read = () => {
    const part = /** @type {HTMLElement | null} */ (document.querySelector(selector));
    return part?.offsetParent ? part : null;
  };
  return waitFor(read, "This part of the page did not open.");
}

/**
 * Types into an input as a visitor would.
 * @param {string} selector
 * @param {string | number} value
 */
async function fill(selector, value) {
  const input = /** @type {HTMLInputElement} */ (await shown(selector));
  input.value = String(value);
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.dispatchEvent(new Event("change", { bubbles: true }));
  await delay(150); // Gradio sends its own copy of the value, which it updates later and without an event
}

/**
 * Acts, and waits for the result. Throws the error that a status line shows instead.
 * @param {string} statusSelector
 * @param {() => Promise<void> | void} act
 * @param {() => boolean} isDone
 */
async function actAndWait(statusSelector, act, isDone) {
  const readAlert = () => document.querySelector(`${statusSelector} [role=alert]`);
  const oldAlert = readAlert();
  await act();
  const alert = await waitFor(
    () => {
      const found = readAlert();
      if (found && found !== oldAlert) return found;
      return isDone() ? "none" : null;
    },
    "The page did not answer. Try again.",
    MAX_SECONDS,
  );
  if (alert !== "none") throw new Error(/** @type {Element} */ (alert).textContent ?? "");
}

/** @param {string} selector */
const textOf = (selector) => document.querySelector(selector)?.textContent ?? "";

/** Chooses a CALM in the menu of models, unless one is chosen. */
async function chooseCalm() {
  const facts = () => /** @type {HTMLElement | null} */ (document.querySelector("#model-facts [data-model]"));
  if (facts()?.dataset.calm !== "false") return;
  const model = config().default_model;
  const isLoaded = () => facts()?.dataset.model === model && !textOf("#model-facts").includes("loading …");
  await actAndWait("#model-facts", store.chooseTourModel, isLoaded);
}

/** Generates a text; the button may be in a tab behind the open one. */
async function generate() {
  const before = store.shown?.run_id;
  const isDone = () => store.shown?.run_id !== before && Boolean(store.shown?.finished);
  await actAndWait("#status", () => find(document.body, "#generate").click(), isDone);
}

/** Pins the most open step of a text of a CALM with a map; generates one if the shown text is of another model. */
async function selectOpenStep() {
  await chooseCalm();
  const run = store.shown;
  if (run?.steps[0]?.distance === undefined || !hasMap(run.model)) await generate();
  const step = store.mostOpenStep;
  if (step !== null) store.selectStep(step);
}

/** @param {HTMLElement} target */
export function highlight(target) {
  clearHighlight();
  target.classList.add("calm-here");
  target.scrollIntoView({ block: "start", behavior: prefersReducedMotion() ? "auto" : "smooth" });
}

export function clearHighlight() {
  for (const part of document.querySelectorAll(".calm-here")) part.classList.remove("calm-here");
}

/** @type {Record<string, () => Promise<HTMLElement>>} by the name of the step */
export const tourActions = {
  async encode() {
    await chooseCalm();
    await fill("#reconstruct-text textarea", EXAMPLE);
    await fill("#noise input[type=number]", 0);
    await actAndWait(
      "#reconstruct-status",
      async () => (await shown("#reconstruct")).click(),
      () => textOf("#reconstruction .calm-pairs").startsWith(EXAMPLE.slice(0, 4)),
    );
    return shown("#reconstruction .calm-pairs");
  },
  async add_noise() {
    await chooseCalm();
    await actAndWait(
      "#reconstruct-status",
      () => fill("#noise input[type=number]", NOISE),
      () => textOf("#reconstruct-status").includes(`noise of ${NOISE.toFixed(2)}`),
    );
    return shown("#noise");
  },
  async draw() {
    const button = /** @type {HTMLButtonElement} */ (await shown("#map [data-cloud]"));
    await selectOpenStep();
    button.click();
    const [run, step] = [store.shown?.run_id ?? "", store.currentStep ?? 0];
    const isDrawn = () => store.cloud(run, step) !== null;
    const hasFailed = () => !button.disabled && !textOf("#map [data-status]").startsWith("step ");
    await waitFor(() => isDrawn() || hasFailed() || null, "The samples were not drawn.", MAX_SECONDS);
    if (!isDrawn()) throw new Error(textOf("#map [data-status]"));
    return shown("#map .calm-plot");
  },
  async temper() {
    openSheet(find(document.body, "#run .calm-sheet"));
    const panel = await shown("#run .calm-detail");
    await selectOpenStep();
    highlight(panel);
    await drawPool(panel);
    await sweepTemperature(panel);
    return panel;
  },
  async compare() {
    await chooseCalm();
    await generate();
    return shown("#run .calm-counter");
  },
  async read() {
    const play = await shown("#map [data-play]");
    await selectOpenStep();
    store.selectStep(0);
    play.click();
    return shown("#map .calm-plot");
  },
  async race() {
    await chooseCalm();
    const before = textOf("#race-status");
    const isDone = () => textOf("#race-status") !== before && textOf("#race-status").includes("speed-up");
    await actAndWait("#race-status", async () => (await shown("#race")).click(), isDone);
    return shown("#race-view .calm-race");
  },
};

/**
 * Draws a fresh pool, unless the step has one.
 * @param {HTMLElement} panel
 */
async function drawPool(panel) {
  const button = panel.querySelector("button[data-draw]");
  if (!(button instanceof HTMLElement)) return;
  button.click();
  await waitFor(() => (button.isConnected ? null : true), "The pool was not drawn.", MAX_SECONDS);
  const alert = panel.querySelector("[role=alert]");
  if (alert) throw new Error(alert.textContent ?? "");
}

/** @param {HTMLElement} panel */
async function sweepTemperature(panel) {
  const quiet = prefersReducedMotion();
  const slider = /** @type {HTMLInputElement} */ (find(panel, "input[type=range]"));
  for (const temperature of quiet ? TEMPERATURES.slice(-1) : TEMPERATURES) {
    slider.value = String(temperature);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    if (!quiet) await delay(MILLISECONDS_PER_TEMPERATURE);
  }
}
