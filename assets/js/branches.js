// The tree of runs. Each branch is listed below the run that it continues.
import { button, node, visible } from "./dom.js";
import { store } from "./store.js";

/**
 * @param {HTMLElement} element
 * @param {(run: RunPayload) => void} onshow
 */
export function createBranchTree(element, onshow) {
  /** @param {RunPayload} run */
  const render = (run) => {
    const rows = descendants(rootOf(run), 0);
    element.hidden = rows.length < 2;
    const items = rows.map(([member, depth]) => {
      const current = member.run_id === run.run_id ? "true" : null;
      const label = button(name(member), () => onshow(member), { "aria-current": current });
      return node("li", { style: `margin-left:${1.2 * depth}rem` }, label);
    });
    element.replaceChildren(node("h2", {}, "Branches"), node("ul", {}, ...items));
  };
  return { render };
}

/** @param {RunPayload} run */
function parentOf(run) {
  return run.parent ? store.runs.get(run.parent.run_id) : undefined;
}

/**
 * @param {RunPayload} run
 * @returns {RunPayload}
 */
function rootOf(run) {
  const parent = parentOf(run);
  return parent ? rootOf(parent) : run;
}

/**
 * @param {RunPayload} run
 * @param {number} depth
 * @returns {[RunPayload, number][]} the run and all branches below it, with their depths
 */
function descendants(run, depth) {
  const branches = [...store.runs.values()].filter((other) => other.parent?.run_id === run.run_id);
  return [[run, depth], ...branches.flatMap((branch) => descendants(branch, depth + 1))];
}

/** @param {RunPayload} run */
function name(run) {
  if (!run.parent || !parentOf(run)) return "first text";
  const step = run.steps[run.parent.step_index];
  return `↳ step ${run.parent.step_index + 1}: “${visible(step.text)}”`;
}
