// The current step of the guided tour: a panel docked beside the page, which stays in view while the step acts on the page.
import { button, find, node, waitFor } from "./dom.js";
import { store } from "./store.js";
import { clearHighlight, highlight, tourActions } from "./tour_actions.js";

/** @param {Component<TourStep[]>} component */
export function mountTourPanel({ props, trigger }) {
  const steps = props.value ?? [];
  store.restoreTour(steps.length);
  const lastIndex = steps.length - 1;
  const current = () => steps[store.tour.step_index];

  const position = node("p", { class: "calm-note" });
  const title = node("h2", { tabindex: "-1" });
  const text = node("p", { class: "calm-tour-text" });
  const outcome = node("p", { class: "calm-outcome", role: "status" });
  const act = button("", perform, { class: "calm-small calm-strong" });
  const back = button("Back", () => goTo(store.tour.step_index - 1));
  const next = button("Next", () => (store.tour.step_index === lastIndex ? leave() : goTo(store.tour.step_index + 1)));
  const buttons = node("div", { class: "calm-actions" }, act, back, next, button("Leave the tour", leave));
  /** @param {KeyboardEvent} event */
  const onkeydown = (event) => event.key === "Escape" && leave();
  const attributes = { class: "calm-tour", "aria-label": "guided tour", hidden: true, onkeydown };
  const panel = node("section", attributes, position, title, text, outcome, buttons);
  find(document.body, ".gradio-container .contain").append(panel);
  if (!store.tour.offered) offerTour(panel, () => goTo(store.tour.step_index));

  async function perform() {
    const { name, outcome: description } = current();
    act.disabled = true;
    act.textContent = "Working …";
    showOutcome("");
    try {
      const target = await tourActions[name]();
      const done = new Set([...store.tour.done, name]);
      store.updateTour({ done: [...done] });
      if (current().name !== name) return; // the visitor went on meanwhile
      showOutcome(description);
      highlight(target);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (current().name === name) showOutcome(`This step failed: ${message}`, true);
    } finally {
      act.disabled = false;
      act.textContent = current().action;
    }
  }
  /**
   * @param {string} message
   * @param {boolean} [failed]
   */
  function showOutcome(message, failed = false) {
    outcome.textContent = message;
    outcome.classList.toggle("calm-failed", failed);
  }
  /** @param {number} index */
  function goTo(index) {
    store.openTourStep(index, steps[index].tab);
  }
  function leave() {
    const isFinished = store.tour.step_index === lastIndex && store.tour.done.includes(current().name);
    clearHighlight();
    store.leaveTour(isFinished ? 0 : store.tour.step_index);
  }

  const render = () => {
    const { step_index, open } = store.tour;
    const step = current();
    panel.hidden = !open;
    document.body.classList.toggle("calm-touring", open);
    position.textContent = `Step ${step_index + 1} of ${steps.length} · paper, ${step.section}`;
    title.textContent = step.title;
    text.textContent = step.text;
    if (!act.disabled) act.textContent = step.action;
    back.disabled = step_index === 0;
    next.textContent = step_index === lastIndex ? "Finish" : "Next";
  };
  store.subscribe("tour", panel, render);
  store.subscribe("tour_tab", panel, () => {
    showOutcome("");
    clearHighlight();
    trigger("open_tab", { tab: store.tourTab });
    if (store.tour.open) title.focus({ preventScroll: true });
  });
  store.subscribe("tour_model", panel, () => trigger("choose_model", {}));
  render();
}

/**
 * On the first visit, offers the tour in the header until the visitor answers.
 * @param {HTMLElement} panel
 * @param {() => void} start
 */
async function offerTour(panel, start) {
  // Gradio mounts the components in no fixed order: the header may come later than the tour.
  const header = await waitFor(() => document.querySelector(".calm-header p"), "The page has no header.", 60);
  if (store.tour.offered) return;
  const refuse = () => store.updateTour({ offered: true });
  const buttons = [
    button("Take the tour", start),
    button("×", refuse, { "aria-label": "Do not offer the tour again" }),
  ];
  const offer = node("span", { class: "calm-offer" }, ...buttons);
  header.append(offer);
  store.subscribe("tour", panel, () => store.tour.offered && offer.remove());
}
