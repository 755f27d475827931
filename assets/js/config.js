// Numbers and addresses that Python sends in the head of the page.

/** @type {Config | null} */
let parsed = null;

/** @returns {Config} */
export function config() {
  if (!parsed) {
    const element = document.getElementById("calm-config");
    if (!element) throw new Error("The page has no #calm-config.");
    parsed = /** @type {Config} */ (JSON.parse(element.textContent ?? ""));
  }
  return parsed;
}
