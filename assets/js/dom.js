// Helpers for elements, and for the wording of small texts.

/**
 * An element. An attribute whose name starts with "on" is a listener; false, null and undefined leave an attribute out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function node(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * A descendant of a component's template. Throws if there is none.
 * @template {HTMLElement} [Part=HTMLElement]
 * @param {HTMLElement} element
 * @param {string} selector
 * @returns {Part}
 */
export function find(element, selector) {
  const part = element.querySelector(selector);
  if (!part) throw new Error(`The component has no ${selector}.`);
  return /** @type {Part} */ (part);
}

/**
 * A small button.
 * @param {string} label
 * @param {(event: Event) => void} onclick
 * @param {Record<string, unknown>} [attributes]
 */
export function button(label, onclick, attributes = {}) {
  return node("button", { type: "button", class: "calm-small", onclick, ...attributes }, label);
}

/**
 * Entries of a definition list (`.calm-facts`).
 * @param {Record<string, string | Node>} facts
 */
export function factList(facts) {
  return Object.entries(facts).map(([name, fact]) => node("div", {}, node("dt", {}, name), node("dd", {}, fact)));
}

/**
 * Shows line breaks as a sign, for texts outside of running text.
 * @param {string} text
 */
export function visible(text) {
  return text.replace(/\n/g, "⏎");
}

/**
 * "1 sample", "3 samples".
 * @param {number} count
 * @param {string} noun
 */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** @param {number} share */
export function percent(share) {
  const digits = share > 0 && share < 0.1 ? 1 : 0;
  return `${(100 * share + 1e-9).toFixed(digits)}%`; // the small term rounds equal shares alike
}

/** @param {string} text */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  // Browsers offer no clipboard to pages served over plain http.
  const area = node("textarea", { style: "position:fixed;opacity:0" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("The browser did not allow the copy.");
}

/**
 * Offers a file to the visitor.
 * @param {string} name
 * @param {string} type
 * @param {string} content
 */
export function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  node("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** @param {number} milliseconds */
export function delay(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/**
 * The first value other than null that `read` returns, read again whenever the page changes.
 * @template Value
 * @param {() => Value | null} read
 * @param {string} failure the message of the error after `seconds`
 * @param {number} [seconds]
 * @returns {Promise<Value>}
 */
export function waitFor(read, failure, seconds = 10) {
  return new Promise((resolve, reject) => {
    const check = () => {
      const value = read();
      if (value !== null) finish(() => resolve(value));
    };
    const observer = new MutationObserver(check);
    const timer = setTimeout(() => finish(() => reject(new Error(failure))), 1000 * seconds);
    /** @param {() => void} settle */
    const finish = (settle) => {
      observer.disconnect();
      clearTimeout(timer);
      settle();
    };
    observer.observe(document.body, { childList: true, subtree: true, attributes: true });
    check();
  });
}

/** @returns {boolean} */
export function prefersReducedMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
