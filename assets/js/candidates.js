// The candidates of a step: how often each was sampled, and its probability at the temperature of the slider.
import { config } from "./config.js";
import { button, factList, node, percent, plural, visible } from "./dom.js";
import { store } from "./store.js";
import { exactShares, temper, temperatureMessage } from "./temperature.js";

const SLIDER_MIN = 0.1;
/** The temperatures of the published batch rule, T = 1/n. */
const TICKS = new Map([
  [1, "1"],
  [1 / 2, "½"],
  [1 / 3, "⅓"],
  [1 / 4, ""],
  [1 / 5, ""],
  [1 / 6, ""],
]);
const END_OF_TEXT = "∎";

/**
 * One candidate's bar.
 * @typedef {{ share: HTMLElement, tempered: HTMLElement, exact: HTMLElement, figure: HTMLElement }} Row
 */

/**
 * @param {HTMLElement} element
 * @param {{
 *   drawPool: (run: RunPayload, stepIndex: number) => Promise<string | null>,
 *   branch: (run: RunPayload, stepIndex: number, pool: Pool, choice: number) => void,
 * }} actions `drawPool` adds a fresh pool to the store and returns an error message or null
 */
export function createCandidatePanel(element, actions) {
  /** @type {number | null} the slider's, until another run is shown */
  let temperature = null;
  /** Whether the probabilities of the exact sampler stand beside those of the pooled one. */
  let compares = false;
  /** @type {{ run: RunPayload, stepIndex: number, pool: Pool } | null} */
  let rendered = null;

  /**
   * @param {RunPayload} run
   * @param {number | null} stepIndex
   */
  const render = (run, stepIndex) => {
    const step = run.steps[stepIndex ?? -1];
    if (stepIndex === null || !step) {
      rendered = null;
      element.replaceChildren(node("p", { class: "calm-note" }, "Point at a chunk to see its candidates."));
      return;
    }
    const fresh = store.freshPool(run.run_id, stepIndex);
    const pool = fresh ?? step;
    const isSameRun = rendered?.run.run_id === run.run_id;
    if (isSameRun && rendered?.stepIndex === stepIndex && (rendered.pool === pool || !fresh)) return;
    if (!isSameRun) temperature = null;
    rendered = { run, stepIndex, pool };

    const status = node("p", { class: "calm-note", role: "status" });
    const { list, rows } = candidateList(pool, (choice) => actions.branch(run, stepIndex, pool, choice));
    const parts = [heading(step, fresh), facts(step, fresh)];
    if (isSampled(pool)) {
      const weigh = () => showWeights(pool, rows, status, temperature ?? run.options.temperature, compares);
      const comparison = comparisonBox(compares, (checked) => {
        compares = checked;
        weigh();
      });
      const slider = temperatureSlider(temperature ?? run.options.temperature, (value) => {
        temperature = value;
        weigh();
      });
      parts.push(node("div", { class: "calm-row" }, slider, comparison, fresh ? null : drawButton(run, stepIndex)));
      weigh();
    } else {
      showProbabilities(pool, rows, status);
    }
    element.replaceChildren(...parts, status, list);
  };

  /**
   * @param {RunPayload} run
   * @param {number} stepIndex
   */
  const drawButton = (run, stepIndex) => {
    const request = async () => {
      start.disabled = true;
      start.textContent = "Drawing …";
      const error = await actions.drawPool(run, stepIndex);
      if (error) start.replaceWith(node("span", { class: "calm-note calm-error", role: "alert" }, error));
    };
    const start = button(`Draw ${config().fresh_samples} samples`, request, { "data-draw": true });
    return start;
  };

  return { render };
}

/**
 * A CALM samples its candidates; a token-by-token model gives their exact probabilities.
 * @param {Pool} pool
 */
function isSampled(pool) {
  return pool.candidates.every((candidate) => candidate.probability === undefined);
}

/**
 * @param {StepPayload} step
 * @param {Pool | null} fresh
 */
function heading(step, fresh) {
  const sampled = fresh ? `${config().fresh_samples} fresh samples` : "Candidates: sampled";
  const title = isSampled(fresh ?? step) ? `${sampled}, then after temperature` : "Most likely tokens";
  return node("h2", {}, `Step ${step.index + 1} · ${title}`);
}

/**
 * The tokens and figures of a step. Where fresh samples are listed, they are named beside those of the run.
 * @param {StepPayload} step
 * @param {Pool | null} fresh
 */
function facts(step, fresh) {
  const tokens = step.tokens.map((token) => node("span", { class: "calm-token" }, visible(token)));
  /** @type {Record<string, string | Node>} */
  const entries = { [tokens.length === 1 ? "token" : "tokens"]: node("span", {}, ...tokens) };
  if (isSampled(step)) entries[fresh ? "samples drawn in the run" : "samples drawn"] = String(countSamples(step));
  if (step.chosen_by_hand) entries.chosen = "by hand";
  else entries.time = `${(1000 * step.seconds).toFixed(0)} ms`;
  return node("dl", { class: "calm-facts" }, ...factList(entries));
}

/**
 * How often each distinct chunk of a pool was sampled, the listed candidates first.
 * @param {Pool} pool
 */
function allCounts(pool) {
  const others = pool.other_counts.flatMap(([count, chunks]) => Array(chunks).fill(count));
  return [...pool.candidates.map((candidate) => candidate.count), ...others];
}

/** @param {Pool} pool */
function countSamples(pool) {
  return allCounts(pool).reduce((sum, count) => sum + count, 0);
}

/**
 * @param {Pool} pool
 * @param {(choice: number) => void} onchoose called with the index of a candidate
 * @returns {{ list: HTMLElement, rows: Row[] }}
 */
function candidateList(pool, onchoose) {
  const list = node("ul", { class: "calm-bars" });
  const rows = pool.candidates.map((candidate, i) => {
    const row = {
      share: node("div", { class: "fill share" }),
      tempered: node("div", { class: "fill" }),
      exact: node("div", { class: "fill exact" }),
      figure: node("span", { class: "figure" }),
    };
    const name = candidateName(candidate, () => onchoose(i));
    const track = node(
      "div",
      { class: "track" },
      ...(isSampled(pool) ? [row.share, row.tempered, row.exact] : [row.tempered]),
    );
    list.append(node("li", { class: candidate.chosen ? "chosen" : "" }, name, track, row.figure));
    return row;
  });
  return { list, rows };
}

/**
 * @param {CandidatePayload} candidate
 * @param {() => void} onchoose
 */
function candidateName(candidate, onchoose) {
  const [before, after] = visible(candidate.text).split(END_OF_TEXT);
  const shown = after === undefined ? before : before + END_OF_TEXT;
  // Two chunks may differ only after the end of the text, which the text does not show.
  const rest = after ? node("span", { class: "calm-after-end", title: "after the end of the text" }, after) : null;
  if (candidate.chosen) return node("span", { class: "name" }, `▸ ${shown}`, rest);
  const title = `Continue from here with “${shown}”`;
  return node("button", { class: "name", type: "button", title, onclick: onchoose }, `↳ ${shown}`, rest);
}

/**
 * @param {Pool} pool
 * @param {Row[]} rows
 * @param {HTMLElement} status
 * @param {number} temperature
 * @param {boolean} compares whether the exact sampler is shown, too; it has no rule above T = 1
 */
function showWeights(pool, rows, status, temperature, compares) {
  const counts = allCounts(pool);
  const total = countSamples(pool);
  const shares = temper(counts, temperature);
  const exact = compares && temperature <= 1 ? exactShares(counts, temperature) : null;
  const longest = Math.max(...shares, ...(exact ?? []), ...counts.map((count) => count / total));
  /** @param {number} share */
  const width = (share) => `${((100 * share) / longest).toFixed(2)}%`;
  rows.forEach((row, i) => {
    const sampled = counts[i] / total;
    row.share.style.width = width(sampled);
    row.tempered.style.width = width(shares[i]);
    row.exact.hidden = !exact;
    row.exact.style.width = width(exact?.[i] ?? 0);
    const after = exact ? `${percent(shares[i])} pooled, ${percent(exact[i])} exact` : percent(shares[i]);
    row.figure.textContent = `${percent(sampled)} → ${after}, ${counts[i]} of ${plural(total, "sample")}`;
  });
  const rest = shares.slice(rows.length).reduce((sum, share) => sum + share, 0);
  const others = counts.length - rows.length;
  const more = others ? `; ${plural(others, "more chunk")} ${others === 1 ? "has" : "have"} ${percent(rest)}` : "";
  const compared = compares ? `. ${comparisonMessage(shares, exact)}` : "";
  status.textContent = temperatureMessage(temperature) + more + compared;
}

/**
 * @param {number[]} pooled
 * @param {number[] | null} exact
 */
function comparisonMessage(pooled, exact) {
  if (!exact) return "The exact sampler has no rule above T = 1.";
  const distance = pooled.reduce((sum, share, i) => sum + Math.abs(share - exact[i]), 0) / 2;
  return `Total-variation distance between pooled and exact: ${distance.toFixed(3)}.`;
}

/**
 * @param {boolean} checked
 * @param {(checked: boolean) => void} onchange
 */
function comparisonBox(checked, onchange) {
  const input = node("input", { type: "checkbox", checked, onchange: () => onchange(input.checked) });
  const title = "The exact sampler, where each of its draws is one of these samples";
  return node("label", { class: "calm-compare-box", title }, input, "exact beside pooled");
}

/**
 * @param {Pool} pool
 * @param {Row[]} rows
 * @param {HTMLElement} status
 */
function showProbabilities(pool, rows, status) {
  const probabilities = pool.candidates.map((candidate) => candidate.probability ?? 0);
  const longest = Math.max(...probabilities);
  rows.forEach(({ tempered, figure }, i) => {
    tempered.style.width = `${((100 * probabilities[i]) / longest).toFixed(2)}%`;
    figure.textContent = percent(probabilities[i]);
  });
  status.textContent = "A token-by-token model computes the probability of every token, so it draws no pool.";
}

/**
 * @param {number} temperature
 * @param {(temperature: number) => void} oninput
 */
function temperatureSlider(temperature, oninput) {
  const max = config().temperature_max;
  const input = node("input", {
    type: "range",
    min: SLIDER_MIN,
    max,
    step: 0.01,
    value: temperature,
    class: "calm-range",
    "aria-label": "temperature of the shown probabilities",
    oninput: () => oninput(Number(input.value)),
  });
  const ticks = [...TICKS].map(([t, label]) =>
    node("span", { style: `left:${(100 * (t - SLIDER_MIN)) / (max - SLIDER_MIN)}%` }, label),
  );
  const scale = node("div", { class: "calm-ticks", "aria-hidden": "true" }, ...ticks);
  return node("div", { class: "calm-weigh" }, node("span", {}, "at temperature"), node("div", {}, input, scale));
}
