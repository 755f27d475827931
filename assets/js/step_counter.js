// The steps of a run beside those of a token-by-token model: a counter with two bars, and how far the other model's text
// would be after as many steps.
import { node, plural } from "./dom.js";

/**
 * "38 steps instead of 152", and a bar for each number.
 * @param {HTMLElement} target
 */
export function createStepCounter(target) {
  const text = node("p", {});
  const bar = node("span", { class: "calm-steps-bar" });
  const otherBar = node("span", { class: "calm-steps-bar other" });
  const bars = node("div", { class: "calm-steps-bars", "aria-hidden": "true" }, bar, otherBar);
  target.replaceChildren(text, bars);

  /**
   * @param {number} steps
   * @param {number} tokens as many steps as a token-by-token model needs for the same text
   */
  const render = (steps, tokens) => {
    target.hidden = steps === 0;
    bars.hidden = tokens === steps;
    const strong = node("strong", {}, String(steps));
    if (tokens === steps) text.replaceChildren(strong, ` ${noun(steps)}, one token each`);
    else text.replaceChildren(strong, ` ${noun(steps)} instead of `, node("strong", {}, String(tokens)));
    bar.style.width = `${(100 * steps) / tokens}%`;
  };
  return { render };
}

/** @param {number} steps */
function noun(steps) {
  return plural(steps, "step").replace(/^\d+ /, "");
}

/**
 * The counter of a run, and below its text a ghost: the text of a token-by-token model after as many steps.
 * @param {HTMLElement} counterTarget
 * @param {HTMLElement} ghost
 */
export function createRunProgress(counterTarget, ghost) {
  const counter = createStepCounter(counterTarget);
  const label = node("span", { class: "calm-ghost-label" });
  const text = node("span", {});
  ghost.replaceChildren(label, text);

  /**
   * @param {RunPayload} run
   * @param {number} [steps] how many of its steps to count
   */
  const render = (run, steps = run.steps.length) => {
    const tokens = run.steps.slice(0, steps).flatMap((step) => step.tokens);
    counter.render(steps, tokens.length);
    ghost.hidden = steps === 0 || tokens.length === steps;
    label.textContent = `Token by token, after ${plural(steps, "step")}: `;
    text.textContent = tokens.slice(0, steps).join("");
  };
  return { render };
}
