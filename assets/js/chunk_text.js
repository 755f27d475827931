// The text of a run, chunk by chunk: the same element in the Generate tab and below the map.
import { certaintyScale } from "./certainty.js";
import { node, visible } from "./dom.js";
import { store } from "./store.js";

/** How far an arrow key moves the focus. */
const KEYS = new Map([
  ["ArrowLeft", -1],
  ["ArrowUp", -1],
  ["ArrowRight", 1],
  ["ArrowDown", 1],
  ["Home", Number.NEGATIVE_INFINITY],
  ["End", Number.POSITIVE_INFINITY],
]);

/**
 * Shows the shown run in an element and keeps it up to date. The pointer previews a step, a click or the focus pins
 * it. All chunks together are one Tab stop; arrow keys move between them.
 * @param {HTMLElement} target
 */
export function createChunkText(target) {
  /** @type {string | null} */
  let runId = null;
  /** @type {HTMLElement[]} */
  let chunks = [];
  /** @type {HTMLElement | undefined} */
  let marked;
  const end = node("span", { class: "calm-end" }, "end of text");

  // Chunks that are on the page stay the same elements while the run grows, so that focus and hover survive.
  /** @param {RunPayload} run */
  const render = (run) => {
    if (runId !== run.run_id || chunks.length > run.steps.length) {
      target.replaceChildren(node("span", { class: "calm-prompt" }, run.prompt));
      runId = run.run_id;
      chunks = [];
      marked = undefined;
    }
    const added = run.steps.slice(chunks.length).map(chunkElement);
    chunks.push(...added);
    target.append(...added);
    end.remove();
    if (run.ended) target.append(end);
    colour(run);
  };

  /** @param {RunPayload} run */
  const colour = (run) => {
    const { levelOf } = certaintyScale(run, store.measure);
    chunks.forEach((chunk, i) => {
      chunk.dataset.level = String(levelOf(run.steps[i]));
    });
  };

  /**
   * Shows the first steps only. The others keep their space, so that nothing moves when they appear.
   * @param {number} steps
   */
  const reveal = (steps) => {
    chunks.forEach((chunk, i) => {
      chunk.classList.toggle("unwritten", i >= steps);
    });
    end.classList.toggle("unwritten", steps < chunks.length);
  };

  /** @param {number | null} stepIndex */
  const mark = (stepIndex) => {
    const chunk = chunks[stepIndex ?? -1];
    if (chunk !== marked) {
      marked?.classList.remove("selected");
      marked?.setAttribute("aria-pressed", "false");
      chunk?.classList.add("selected");
      chunk?.setAttribute("aria-pressed", "true");
    }
    marked = chunk;
    const tabStop = chunk ?? chunks[0];
    for (const other of chunks) if (other.tabIndex === 0 && other !== tabStop) other.tabIndex = -1;
    if (tabStop) tabStop.tabIndex = 0;
  };

  /** @param {Event} event */
  const stepAt = (event) => {
    const chunk = event.target instanceof Element ? event.target.closest(".calm-chunk") : null;
    return chunk ? chunks.indexOf(/** @type {HTMLElement} */ (chunk)) : -1;
  };
  for (const type of ["click", "focusin"]) {
    target.addEventListener(type, (event) => {
      if (stepAt(event) >= 0) store.selectStep(stepAt(event));
    });
  }
  target.addEventListener("pointerover", (event) => {
    if (event.pointerType === "mouse" && stepAt(event) >= 0) store.previewStep(stepAt(event));
  });
  target.addEventListener("pointerleave", () => store.previewStep(null));
  target.addEventListener("keydown", (event) => {
    const move = KEYS.get(event.key);
    if (move === undefined || stepAt(event) < 0) return;
    event.preventDefault();
    chunks[Math.min(Math.max(0, stepAt(event) + move), chunks.length - 1)].focus();
  });

  store.subscribe("measure", target, () => store.shown && colour(store.shown));

  return { render, mark, reveal };
}

/**
 * A span and not a button: a line would break around a button element, in the middle of a word.
 * @param {StepPayload} step
 */
function chunkElement(step) {
  return node(
    "span",
    {
      class: `calm-chunk${step.index % 2 ? " odd" : ""}`,
      role: "button",
      tabindex: "-1",
      "data-index": step.index,
      "aria-pressed": "false",
      title: step.tokens.map(visible).join(" · "),
    },
    step.text || (step.ended ? "" : "∅"),
  );
}

/**
 * Adds the texts that a row of plain chunks does not show yet.
 * @param {HTMLElement} target
 * @param {string[]} texts
 */
export function appendPieces(target, texts) {
  const rendered = target.querySelectorAll(".calm-piece").length;
  texts.slice(rendered).forEach((text, i) => {
    target.append(node("span", { class: `calm-piece${(rendered + i) % 2 ? " odd" : ""}` }, text));
  });
}
