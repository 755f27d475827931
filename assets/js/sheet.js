// On a phone the candidates of the selected chunk are in a sheet at the lower edge of the screen.
import { button } from "./dom.js";

const PHONE = "(max-width: 640px)";
const GAP = 12;

/**
 * A tap on a chunk of the text opens the sheet, as Enter and the space bar do. Its button, Escape and a tap outside
 * close it. On a larger screen its content stands in the page.
 * @param {HTMLElement} sheet
 * @param {HTMLElement} text
 */
export function createSheet(sheet, text) {
  const close = button("Close", () => closeSheet(true), { class: "calm-small calm-sheet-close" });
  sheet.prepend(close);

  /** @param {boolean} restoreFocus */
  const closeSheet = (restoreFocus) => {
    if (!("open" in sheet.dataset)) return;
    delete sheet.dataset.open;
    const chunk = /** @type {HTMLElement | null} */ (text.querySelector(".calm-chunk.selected"));
    if (restoreFocus) chunk?.focus({ preventScroll: true });
  };
  /** @param {Event} event */
  const open = (event) => {
    const chunk = event.target instanceof Element ? event.target.closest(".calm-chunk") : null;
    if (!chunk || !matchMedia(PHONE).matches) return;
    event.preventDefault();
    openSheet(sheet);
    close.focus();
    const hidden = chunk.getBoundingClientRect().bottom + GAP - sheet.getBoundingClientRect().top;
    if (hidden > 0) window.scrollBy(0, hidden);
  };

  text.addEventListener("click", open);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") open(event);
  });
  onDocument(sheet, "keydown", (event) => {
    if (/** @type {KeyboardEvent} */ (event).key === "Escape") closeSheet(true);
  });
  onDocument(sheet, "click", (event) => {
    const path = event.composedPath(); // a press may have taken its button off the page
    const isInside = path.some(
      (part) => part instanceof Element && part.matches(".calm-sheet, .calm-chunk, .calm-tour"),
    );
    if (!isInside) closeSheet(false);
  });
}

/** @param {HTMLElement} sheet */
export function openSheet(sheet) {
  sheet.dataset.open = "";
}

/**
 * Listens to the document, as long as the element is on the page.
 * @param {HTMLElement} element
 * @param {string} type
 * @param {(event: Event) => void} listener
 */
function onDocument(element, type, listener) {
  const call = (/** @type {Event} */ event) =>
    element.isConnected ? listener(event) : document.removeEventListener(type, call);
  document.addEventListener(type, call);
}
