// Replays a finished run once, step by step, until it ends or the visitor does something.

const MILLISECONDS_PER_STEP = 150;
const INPUTS = ["pointerdown", "keydown", "wheel", "touchstart"];

/**
 * @param {number} steps
 * @param {(step: number | null) => void} onstep the number of steps to show, and null at the end
 * @returns {() => void} stops the replay
 */
export function replay(steps, onstep) {
  const start = performance.now();
  let shown = 0;
  const timer = setInterval(() => {
    // A slow page skips steps and keeps the pace.
    const due = 1 + Math.floor((performance.now() - start) / MILLISECONDS_PER_STEP);
    if (due >= steps) stop();
    else if (due !== shown) onstep(due);
    shown = due;
  }, MILLISECONDS_PER_STEP / 3);
  let running = true;
  const stop = () => {
    if (!running) return;
    running = false;
    clearInterval(timer);
    for (const type of INPUTS) window.removeEventListener(type, stop, true);
    onstep(null);
  };
  for (const type of INPUTS) window.addEventListener(type, stop, { capture: true, passive: true });
  return stop;
}
