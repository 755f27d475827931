// The actions of the guided tour's steps on the page. An action returns the part of the page to look at.
import { delay, find, prefersReducedMotion, waitFor } from "./dom.js";
import { store } from "./store.js";

const EXAMPLE = "Once upon a time there was a brave fox named Mia.";
const NOISE = 0.3;
const TEMPERATURES = [1, 0.8, 0.65, 0.5, 0.4, 0.33];
const MILLISECONDS_PER_TEMPERATURE = 350;
const MAX_POOL_SECONDS = 60;

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

/** @param {string} selector */
async function press(selector) {
  (await shown(selector)).click();
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

/** Pins the step of the shown run that has the most distinct candidates. */
function selectMostOpenStep() {
  const steps = store.shown?.steps ?? [];
  if (steps[0]?.distance === undefined) {
    throw new Error("A token-by-token model generated the shown text: choose a CALM in the menu above and generate.");
  }
  const chunks = steps.map((step) => step.candidates.length + step.other_counts.reduce((sum, [, n]) => sum + n, 0));
  store.selectStep(chunks.indexOf(Math.max(...chunks)));
}

/** @type {Record<string, () => Promise<HTMLElement>>} by the name of the step */
export const tourActions = {
  async encode() {
    await fill("#reconstruct-text textarea", EXAMPLE);
    await fill("#noise input[type=number]", 0);
    await press("#reconstruct");
    return shown("#reconstruct-status");
  },
  async add_noise() {
    await fill("#noise input[type=number]", NOISE);
    return shown("#noise");
  },
  async draw() {
    const button = await shown("#map [data-cloud]");
    selectMostOpenStep();
    button.click();
    return shown("#map .calm-tools");
  },
  async temper() {
    const panel = await shown("#run .calm-detail");
    selectMostOpenStep();
    highlight(panel);
    await drawPool(panel);
    await sweepTemperature(panel);
    return panel;
  },
  async compare() {
    await press("#generate");
    return shown("#status");
  },
  async read() {
    const play = await shown("#map [data-play]");
    selectMostOpenStep();
    store.selectStep(0);
    play.click();
    return shown("#map .calm-tools");
  },
  async race() {
    await press("#race");
    return shown("#race-status");
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
  await waitFor(() => (button.isConnected ? null : true), "The pool was not drawn.", MAX_POOL_SECONDS);
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
