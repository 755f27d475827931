// Buttons that copy or export the shown run.
import { button, copyText, delay, download } from "./dom.js";
import { store } from "./store.js";

export function runActions() {
  return [
    action("Copy text", "Copied", (run) => copyText(run.prompt + run.steps.map((step) => step.text).join(""))),
    action("Copy link", "Copied", () => copyText(location.href)),
    action("Export JSON", "Exported", (run) =>
      download(`calm-${run.run_id}.json`, "application/json", exportedRun(run)),
    ),
  ];
}

/**
 * @param {string} label
 * @param {string} doneLabel
 * @param {(run: RunPayload) => void | Promise<void>} act
 */
function action(label, doneLabel, act) {
  const element = button(label, async () => {
    if (!store.shown) return;
    await act(store.shown);
    element.textContent = doneLabel;
    await delay(1500);
    element.textContent = label;
  });
  return element;
}

/**
 * The run as JSON: the inputs that reproduce it, and its result.
 * @param {RunPayload} run
 */
function exportedRun({ model, prompt, options, steps, ended, parent, vectors }) {
  const run = { made_by: "CALM Playground", address: location.href, model, prompt, options, steps, ended, parent };
  return JSON.stringify({ ...run, vectors }, null, 1);
}
