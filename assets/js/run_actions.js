// Buttons that copy or export the shown run.
import { copyText, download } from "./dom.js";
import { action, linkAction, runAddress } from "./run_card.js";
import { store } from "./store.js";

export function runActions() {
  return [
    runAction("Copy text", "Copied", (run) => copyText(run.prompt + run.steps.map((step) => step.text).join(""))),
    linkAction(() => store.shown && runAddress(store.shown)),
    runAction("Export JSON", "Exported", (run) =>
      download(`calm-${run.run_id}.json`, "application/json", exportedRun(run)),
    ),
  ];
}

/**
 * @param {string} label
 * @param {string} doneLabel
 * @param {(run: RunPayload) => void | Promise<void>} act
 */
function runAction(label, doneLabel, act) {
  return action(label, doneLabel, () => (store.shown ? act(store.shown) : undefined));
}

/**
 * The run as JSON: the inputs that reproduce it, and its result.
 * @param {RunPayload} run
 */
function exportedRun(run) {
  const { model, prompt, options, origin, steps, ended, parent, vectors } = run;
  const made = { made_by: "CALM Playground", address: runAddress(run), model, prompt, options, origin };
  return JSON.stringify({ ...made, steps, ended, parent, vectors }, null, 1);
}
