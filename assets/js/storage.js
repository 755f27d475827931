// Values in the browser's storage, which survive a reload.

/**
 * A value in the browser's storage, as JSON. Private windows and embedded pages may deny storage, and it may be full:
 * reading then gives null and writing gives false.
 * @param {"localStorage" | "sessionStorage"} area
 * @param {string} key
 */
export function savedValue(area, key) {
  return {
    read() {
      try {
        return JSON.parse(window[area].getItem(key) ?? "null");
      } catch {
        return null;
      }
    },
    /** @param {unknown} value */
    write(value) {
      try {
        window[area].setItem(key, JSON.stringify(value));
        return true;
      } catch {
        return false;
      }
    },
  };
}
