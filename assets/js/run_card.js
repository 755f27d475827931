// The card of a result: the settings it was made with, whether the inputs have changed since, and its link and exports.
import { csv } from "./csv.js";
import { button, copyText, delay, download, factList, find, node, plural, waitFor } from "./dom.js";
import { differs, inputValue, onInputs } from "./inputs.js";
import { store } from "./store.js";
import { addressOf, openedRun, saveRun } from "./url_state.js";

/** What the inputs are called on the page, by the end of their names in the address. */
const LABELS = new Map(
  Object.entries({
    t: "temperature",
    length: "max new tokens",
    seed: "random seed",
    pool: "max samples per step",
  }),
);

/** @param {string} name of an input in the address, such as "seed" or "race-seed" */
function label(name) {
  const last = name.split("-").pop() ?? name;
  return LABELS.get(last) ?? last;
}

/**
 * A card that follows the inputs.
 * @param {HTMLElement} element
 */
export function createRunCard(element) {
  /** @type {RunCardPayload | null} */
  let card = null;
  const facts = node("dl", { class: "calm-facts" });
  const note = node("p", { class: "calm-note calm-changed", role: "status" });
  const press = () => pressButton(card?.button ?? "");
  const again = button("Run again", press);
  element.append(facts, note);

  const renderNote = () => {
    const changed = card ? Object.keys(card.inputs).filter((name) => differs(name, card?.inputs[name])) : [];
    const sentence = card ? changeSentence(card, changed) : "";
    note.hidden = !sentence;
    if (note.firstChild?.textContent === sentence) return;
    note.replaceChildren(sentence, ...(sentence ? [" ", again] : []));
  };
  onInputs(element, renderNote);

  /** @param {RunCardPayload} shown */
  const render = (shown) => {
    card = shown;
    facts.replaceChildren(...factList(shown.facts));
    renderNote();
  };
  return { render };
}

/**
 * @param {RunCardPayload} card
 * @param {string[]} changed names of the inputs that have changed
 */
function changeSentence({ inputs }, changed) {
  const others = changed.filter((name) => name !== "model").map(label);
  const settings = others.length ? `Settings changed: ${others.join(", ")}.` : "";
  if (!changed.includes("model")) return settings;
  return `This is a result of ${inputs.model}; ${inputValue("model")} is chosen now. ${settings}`.trim();
}

/** @param {string} id */
function pressButton(id) {
  const target = document.getElementById(id);
  if (target?.offsetParent) target.click();
}

/** @param {Component<RunCardPayload>} component */
export function mountRunCard({ element, props, watch }) {
  const part = find(element, ".calm-card");
  const card = createRunCard(part);
  const actions = node("div", { class: "calm-actions" });
  part.append(actions);
  const render = () => {
    const shown = props.value;
    part.hidden = !shown?.inputs;
    if (!shown?.inputs) return;
    card.render(shown);
    actions.replaceChildren(...cardActions(shown));
  };
  watch("value", render);
  render();
  for (const id of part.dataset.buttons?.split(" ") ?? []) repeatOpenedRun(id);
}

/** @param {RunCardPayload} card */
function cardActions(card) {
  const { rows, inputs } = card;
  const [name, address] = [`calm-${card.button}`, addressOf(card)];
  if (!rows.length) return [linkAction(() => address)];
  const columns = Object.keys(rows[0]);
  const lines = () => rows.map((row) => `${JSON.stringify({ ...row, inputs, address })}\n`).join("");
  const cells = () => rows.map((row) => columns.map((column) => row[column]));
  return [
    linkAction(() => address),
    action("Export JSON Lines", "Exported", () => download(`${name}.jsonl`, "application/jsonl", lines())),
    action("Export CSV", "Exported", () => download(`${name}.csv`, "text/csv", csv(columns, cells()))),
  ];
}

/**
 * The button that copies the address of a result.
 * @param {() => string | null} address
 */
export function linkAction(address) {
  return action("Copy link", "Copied", () => {
    const text = address();
    if (text === null) throw new Error("The text is too long for a link.");
    return copyText(text);
  });
}

/**
 * Presses a button once, if the page was opened by the link of a result that this button repeats.
 * @param {string} id
 */
async function repeatOpenedRun(id) {
  const parameters = openedRun(id);
  if (!parameters || started.has(id)) return;
  started.add(id);
  const wanted = [...parameters].filter(([name]) => !["tab", "run", "origin"].includes(name));
  const read = () => {
    const target = document.getElementById(id);
    return target?.offsetParent && wanted.every(([name, value]) => !differs(name, value)) ? target : null;
  };
  const target = await waitFor(read, "The inputs of the link did not arrive.").catch(() => document.getElementById(id));
  await delay(100); // Gradio hands the restored values to the inputs
  target?.click();
}

/** Buttons that were pressed because of the link. */
const started = new Set();

/**
 * A button that acts and then shows for a moment that it has acted, or why it cannot.
 * @param {string} label
 * @param {string} doneLabel
 * @param {() => void | Promise<void>} act
 * @param {Record<string, string>} [attributes]
 */
export function action(label, doneLabel, act, attributes = {}) {
  const press = async () => {
    try {
      await act();
      element.textContent = doneLabel;
    } catch (error) {
      element.textContent = error instanceof Error ? error.message : String(error);
    }
    await delay(1500);
    element.textContent = label;
  };
  const element = button(label, press, attributes);
  return element;
}

// The card of a generated run

/**
 * The card of a run; its inputs are those of the samples of its prompt, with which it was generated.
 * @param {RunPayload} run
 * @returns {RunCardPayload}
 */
export function generationCard(run) {
  const samples = store.samplesOf(run);
  const { temperature, max_new_tokens, pool_size, sampler, seed } = run.options;
  const draws = run.steps.some((step) => step.distance !== undefined);
  const branches = run.origin.branches.length;
  const tokenByToken = { model: run.model, temperature: `${temperature}`, "random seed": `${seed}` };
  return {
    tab: "generate",
    button: "generate",
    facts: {
      ...tokenByToken,
      ...(draws ? { sampler, "max samples per step": `${pool_size}` } : {}),
      "max new tokens": `${max_new_tokens}`,
      ...(branches ? { branches: `at ${plural(branches, "step")}` } : {}),
    },
    inputs: {
      model: run.model,
      prompt: run.prompt,
      t: temperature,
      length: max_new_tokens,
      seed: samples.length > 1 ? samples[0].options.seed : seed,
      sampler,
      pool: pool_size,
      samples: samples.length || 1,
    },
    rows: [],
  };
}

/**
 * The address that repeats a run, its branches included.
 * @param {RunPayload} run
 */
export function runAddress(run) {
  const { inputs, ...card } = generationCard(run);
  return addressOf({ ...card, inputs: { ...inputs, seed: run.options.seed, samples: 1 } }, run.origin);
}

/**
 * Keeps the address of the page up to date: with the inputs of the shown run, it is the address of that run.
 * @param {RunPayload} run
 */
export function saveShownRun(run) {
  if (run.run_id === "example" || !run.finished) return;
  const card = generationCard(run);
  const isSame = Object.entries(card.inputs).every(([name, value]) => !differs(name, value));
  saveRun(card, isSame, run.origin);
}
