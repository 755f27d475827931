// Moves through the steps of the path on the map, with a slider or a Play button.
import { find } from "./dom.js";
import { errorMessage, hasMap } from "./map_files.js";
import { store } from "./store.js";

const MILLISECONDS_PER_STEP = 500;

/** @param {HTMLElement} element of the map component */
export function createPlayer(element) {
  const play = /** @type {HTMLButtonElement} */ (find(element, "[data-play]"));
  const slider = /** @type {HTMLInputElement} */ (find(element, "[data-step]"));
  const status = find(element, "[data-status]");
  /** @type {number | undefined} */
  let timer;

  const stop = () => {
    clearInterval(timer);
    timer = undefined;
    play.textContent = "▶ Play";
  };
  const start = () => {
    const run = store.shown;
    if (!run) return;
    const marked = store.markedStep ?? run.steps.length;
    let step = marked >= run.steps.length - 1 ? -1 : marked;
    play.textContent = "❚❚ Pause";
    timer = setInterval(() => {
      step += 1;
      const shown = store.shown;
      if (shown?.run_id !== run.run_id || step >= shown.steps.length || !element.isConnected) stop();
      else store.selectStep(step);
    }, MILLISECONDS_PER_STEP);
  };
  play.addEventListener("click", () => (timer === undefined ? start() : stop()));
  slider.addEventListener("input", () => store.selectStep(Number(slider.value) - 1));

  /**
   * @param {RunPayload} run
   * @param {() => void} onload called when what is usual for the model has been fetched
   */
  const render = (run, onload) => {
    const index = store.currentStep;
    slider.max = String(Math.max(1, run.steps.length));
    slider.value = String((index ?? 0) + 1);
    slider.disabled = play.disabled = index === null;
    if (!hasMap(run.model)) status.textContent = `There is no map of ${run.model}.`;
    else status.textContent = index === null ? "" : stepStatus(run, index, onload);
  };

  return { render };
}

/**
 * @param {RunPayload} run
 * @param {number} index
 * @param {() => void} onload
 */
function stepStatus(run, index, onload) {
  const { distance } = run.steps[index];
  const error = distance === undefined ? "" : `, ${errorMessage(run.model, distance, onload)}`;
  return `step ${index + 1} of ${run.steps.length}${error}`;
}
