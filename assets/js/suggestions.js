// One sentence beside a text whose prompt is not in the language of the model, with prompts to try.
import { button, node } from "./dom.js";

/**
 * @param {HTMLElement} target
 * @param {(prompt: string) => void} ontry
 */
export function createSuggestions(target, ontry) {
  /** @param {RunPayload} run */
  const render = ({ model, suggestions = [] }) => {
    target.hidden = suggestions.length === 0;
    const sentence = `${model} was trained on Storyland alone, a small language of children's stories. Try:`;
    const buttons = suggestions.map((prompt) => button(prompt, () => ontry(prompt)));
    target.replaceChildren(...(target.hidden ? [] : [node("p", {}, sentence), ...buttons]));
  };
  return { render };
}
