// The number boxes of Gradio's sliders.

/** Gradio turns an emptied box into the slider's minimum. This restores the value that it had when it got the focus. */
export function keepNumberBoxes() {
  /** @type {WeakMap<HTMLInputElement, string>} */
  const values = new WeakMap();
  /** @param {Event} event */
  const box = ({ target }) => {
    const isBox = target instanceof HTMLInputElement && target.type === "number" && target.min && target.max;
    return isBox ? /** @type {HTMLInputElement} */ (target) : null;
  };
  document.addEventListener("focusin", (event) => {
    const input = box(event);
    if (input?.value) values.set(input, input.value);
  });
  // In the capture phase, so that it precedes Gradio's own listener.
  const restore = (/** @type {Event} */ event) => {
    const input = box(event);
    const value = input && values.get(input);
    if (!input || input.value || !value) return;
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  document.addEventListener("blur", restore, true);
}
