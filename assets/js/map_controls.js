// The controls above the map.
import { find } from "./dom.js";
import { store } from "./store.js";

/** @param {HTMLElement} element of the map component */
export function createMapControls(element) {
  /** @param {string} name */
  const select = (name) => /** @type {HTMLSelectElement} */ (find(element, `select[data-${name}]`));
  /** @param {string} name */
  const checkbox = (name) => /** @type {HTMLInputElement} */ (find(element, `input[data-${name}]`));
  const [layout, colouring] = [select("layout"), select("colour")];
  const [encoded, others] = [checkbox("encoded"), checkbox("others")];
  const [whole, chunks] = [checkbox("whole"), checkbox("chunks")];
  const buttons = /** @type {HTMLButtonElement[]} */ ([...element.querySelectorAll("button[data-dimensions]")]);
  /** @type {2 | 3} */
  let dimensions = 2;
  let reset = () => {};

  /** @param {number} wanted */
  const turnTo = (wanted) => {
    dimensions = wanted === 3 ? 3 : 2;
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.dimensions) === dimensions));
    }
    reset();
  };

  return {
    options: () => ({
      dimensions,
      layout: /** @type {"umap" | "principal" | "own"} */ (layout.value),
      colouring: colouring.value,
      showEncoded: encoded.checked,
      showWhole: whole.checked,
      showChunks: chunks.checked,
      showOthers: others.checked,
    }),
    showFit() {
      find(element, "option[value=own]").removeAttribute("disabled");
      layout.value = "own";
      turnTo(store.fit?.dimensions ?? 2);
    },
    /**
     * @param {() => void} render
     * @param {() => void} renderAnew
     */
    onchange(render, renderAnew) {
      reset = renderAnew;
      for (const control of [colouring, encoded, others, whole, chunks]) control.addEventListener("change", render);
      layout.addEventListener("change", () => (layout.value === "own" ? turnTo(store.fit?.dimensions ?? 2) : render()));
      for (const button of buttons) {
        button.addEventListener("click", () => {
          const wanted = Number(button.dataset.dimensions);
          if (layout.value === "own" && store.fit?.dimensions !== wanted) layout.value = "umap";
          turnTo(wanted);
        });
      }
    },
  };
}
