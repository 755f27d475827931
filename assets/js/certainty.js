// The uncertainty of the model at a step: two measures, each with a scale of four levels.
import { node } from "./dom.js";

/**
 * @typedef {"entropy" | "distance"} Measure
 * @typedef {{ levelOf: (step: StepPayload) => number, labels: string[] }} Scale the level of a step, 0 (certain) to 3 (open), and
 *   the meaning of each level
 */

/** @type {Record<Measure, string>} what a visitor chooses from */
const MEASURES = { entropy: "entropy", distance: "prediction error" };

/** In bits; a step belongs to the first level whose limit it does not exceed. */
const ENTROPY_LIMITS = [0, 1, 2];
/** In multiples of the run's median, so that the scale suits every autoencoder. */
const DISTANCE_LIMITS = [1.5, 3, 10];
const ROUNDING = 1e-9;

/** @type {WeakMap<StepPayload, number>} a step never changes, and several views read its entropy at each update */
const entropies = new WeakMap();

/**
 * Shannon entropy of a step's candidates in bits. A CALM: of the sampled counts. A token-by-token model: of the
 * probabilities of the listed tokens, where all others count as one.
 * @param {StepPayload} step
 */
export function entropy(step) {
  const known = entropies.get(step) ?? computedEntropy(step);
  entropies.set(step, known);
  return known;
}

/** @param {StepPayload} step */
function computedEntropy(step) {
  const listed = step.candidates.map((candidate) => candidate.probability);
  if (listed.every((probability) => probability !== undefined)) {
    const rest = 1 - listed.reduce((sum, probability) => sum + probability, 0);
    return entropyOf([...listed, Math.max(0, rest)]);
  }
  const others = step.other_counts.flatMap(([count, chunks]) => Array(chunks).fill(count));
  return entropyOf([...step.candidates.map((candidate) => candidate.count), ...others]);
}

/** @param {number[]} weights */
function entropyOf(weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights
    .filter((weight) => weight > 0)
    .reduce((sum, weight) => sum - (weight / total) * Math.log2(weight / total), 0);
}

/**
 * Index of the step with the highest entropy; null if the run has no step.
 * @param {RunPayload} run
 */
export function mostOpenStep({ steps }) {
  if (!steps.length) return null;
  const values = steps.map(entropy);
  return values.indexOf(Math.max(...values));
}

/**
 * The scale of a measure for a run. A token-by-token model predicts no vector, so its scale is always that of entropy.
 * @param {RunPayload} run
 * @param {Measure} measure
 * @returns {Scale}
 */
export function certaintyScale(run, measure) {
  const distances = run.steps.flatMap(({ distance }) => distance ?? []).sort((one, other) => one - other);
  if (measure === "entropy" || !distances.length) {
    return { levelOf: (step) => levelOf(entropy(step), ENTROPY_LIMITS), labels: ["0", "≤ 1", "≤ 2", "> 2 bits"] };
  }
  const median = distances[Math.floor(distances.length / 2)];
  const limits = DISTANCE_LIMITS.map((multiple) => multiple * median);
  const [first, second, third] = limits.map((limit) => limit.toPrecision(2));
  return {
    levelOf: (step) => levelOf(step.distance ?? 0, limits),
    labels: [`≤ ${first}`, `≤ ${second}`, `≤ ${third}`, `> ${third}`],
  };
}

/**
 * @param {number} value
 * @param {number[]} limits
 */
function levelOf(value, limits) {
  return limits.filter((limit) => value > limit + ROUNDING).length;
}

/**
 * The choice between the measures, with a legend.
 * @param {HTMLElement} target
 * @param {Measure} measure
 * @param {(measure: Measure) => void} onchange
 */
export function createCertaintyControl(target, measure, onchange) {
  const options = Object.entries(MEASURES).map(([name, label]) => node("option", { value: name }, label));
  const select = node("select", { class: "calm-select", "aria-label": "Colour the chunks by" }, ...options);
  const legend = node("ul", { class: "calm-legend", "aria-label": "from certain to open" });
  select.value = measure;
  select.addEventListener("change", () => onchange(/** @type {Measure} */ (select.value)));
  target.replaceChildren(select, legend);

  /** @param {Scale} scale */
  const render = ({ labels }) => {
    const shown = labels.join();
    if (legend.dataset.labels === shown) return;
    legend.dataset.labels = shown;
    legend.replaceChildren(...labels.map((label, level) => node("li", {}, swatch(level), label)));
  };
  return { render };
}

/** @param {number} level */
function swatch(level) {
  return node("span", { class: "calm-swatch", "data-level": level, "aria-hidden": "true" });
}
