// The samples of one prompt side by side. The one that is shown in full above is marked.
import { appendPieces } from "./chunk_text.js";
import { button, node } from "./dom.js";
import { store } from "./store.js";

/**
 * @param {HTMLElement} element
 * @param {(run: RunPayload) => void} onshow
 */
export function createSampleList(element, onshow) {
  let renderedIds = "";
  /** @type {{ label: HTMLElement, text: HTMLElement }[]} */
  let columns = [];

  /** @param {RunPayload} run */
  const createColumn = (run) => {
    const show = () => onshow(store.runs.get(run.run_id) ?? run);
    const label = button(`Seed ${run.options.seed}`, show);
    const text = node("p", { class: "calm-text", "aria-label": `sample with seed ${run.options.seed}` });
    element.append(node("section", { class: "calm-sample" }, label, text));
    return { label, text };
  };

  /** @param {RunPayload} run */
  const render = (run) => {
    const group = store.samplesOf(run);
    element.hidden = group.length < 2;
    const ids = group.map((member) => member.run_id).join();
    if (ids !== renderedIds) {
      renderedIds = ids;
      element.replaceChildren();
      columns = element.hidden ? [] : group.map(createColumn);
    }
    columns.forEach(({ label, text }, i) => {
      const isShown = group[i].run_id === run.run_id;
      label.setAttribute("aria-current", String(isShown));
      label.textContent = `Seed ${group[i].options.seed}${isShown ? " · shown above" : ""}`;
      appendPieces(
        text,
        group[i].steps.map((step) => step.text),
      );
    });
  };

  return { render };
}
