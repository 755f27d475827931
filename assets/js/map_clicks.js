// Clicks on points of a map.

/** A pointer that moves farther between press and release, in pixels, turns the map. */
const MAX_CLICK_MOVEMENT = 4;

/** @type {WeakMap<PlotlyElement, AbortController>} ends the listeners that Plotly does not know */
const controllers = new WeakMap();

/**
 * Calls back once for each click on a point. In space, Plotly reports a click with every frame while the button is held,
 * also while the map turns; such a click counts when the button is released where it was pressed. A second call for the
 * same plot, whose own listeners Plotly has removed, replaces the first.
 * @param {PlotlyElement} plot
 * @param {() => boolean} isFlat
 * @param {(point: PlotlyPointEvent["points"][number]) => void} onclick
 */
export function listenForClicks(plot, isFlat, onclick) {
  /** @type {PlotlyPointEvent["points"][number] | null} */
  let pending = null;
  let pressed = [0, 0];
  controllers.get(plot)?.abort();
  const controller = new AbortController();
  controllers.set(plot, controller);
  const options = { capture: true, signal: controller.signal };
  plot.on("plotly_click", ({ points: [point] }) => {
    if (isFlat()) onclick(point);
    else pending = point;
  });
  plot.addEventListener(
    "pointerdown",
    ({ clientX, clientY }) => {
      pressed = [clientX, clientY];
      pending = null;
    },
    options,
  );
  plot.addEventListener(
    "pointerup",
    ({ clientX, clientY }) => {
      const point = pending;
      pending = null;
      if (point && Math.hypot(clientX - pressed[0], clientY - pressed[1]) < MAX_CLICK_MOVEMENT) onclick(point);
    },
    options,
  );
}
