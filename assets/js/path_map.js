// The compact map beside a text: the last steps of the shown run, and the candidates of the current step.
import { node } from "./dom.js";
import { hasMap } from "./map_files.js";
import { store } from "./store.js";
import { mountVectorMap } from "./vector_map.js";

/**
 * Mounts the map when it comes into view and the page has nothing else to do: Plotly is the largest file of the page.
 * @param {HTMLElement} target
 * @param {PlaceServer} server
 */
export function createPathMap(target, server) {
  const container = node("div", {});
  target.replaceChildren(node("h2", {}, "The last steps on the map of chunk vectors"), container);
  const render = () => {
    target.hidden = !store.shown || !hasMap(store.shown.model);
  };
  store.subscribe("run", target, render);
  render();
  whenSeen(target, () => whenIdle(() => mountVectorMap({ container, compact: true, server })));
}

/**
 * @param {HTMLElement} element
 * @param {() => void} callback
 */
function whenSeen(element, callback) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    callback();
  });
  observer.observe(element);
}

/** @param {() => void} callback */
function whenIdle(callback) {
  if ("requestIdleCallback" in window) window.requestIdleCallback(callback, { timeout: 1000 });
  else setTimeout(callback, 200); // Safari
}
