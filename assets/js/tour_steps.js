// The steps of the guided tour as a list.
import { button, find, node } from "./dom.js";
import { store } from "./store.js";

/** @param {Component<TourStep[]>} component */
export function mountTourSteps({ element, props }) {
  const steps = props.value ?? [];
  const list = find(element, "ol");
  const start = find(element, "[data-start]");
  const notes = steps.map(() => node("p", { class: "calm-note" }));
  const items = steps.map((step, i) => {
    const label = `Show me step ${i + 1}: ${step.title}`;
    const show = button("Show me", () => store.openTourStep(i, step.tab), { "aria-label": label });
    return node("li", {}, node("h2", {}, step.title), node("p", {}, step.text), notes[i], show);
  });
  list.replaceChildren(...items);
  start.addEventListener("click", () => {
    const { step_index } = store.tour;
    store.openTourStep(step_index, steps[step_index].tab);
  });

  const render = () => {
    const { step_index, done } = store.tour;
    start.textContent = done.length || step_index ? `Continue with step ${step_index + 1}` : "Start the tour";
    steps.forEach((step, i) => {
      notes[i].textContent = `paper, ${step.section}${done.includes(step.name) ? " · ✓ done" : ""}`;
    });
  };
  store.subscribe("tour", element, render);
  render();
}
