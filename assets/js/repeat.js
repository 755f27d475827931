// Repeats the generated run that a link describes.
import { openedOrigin } from "./url_state.js";

/**
 * Asks the server for the run that the page was opened with. Returns false where there is none, or where it is the run
 * that survived a reload.
 * @param {RunPayload | null} restored
 * @param {(event: string, data: object) => void} trigger
 */
export function repeatOpenedLink(restored, trigger) {
  const opened = openedOrigin();
  if (!opened || (restored && isSame(restored.origin, opened))) return false;
  trigger("repeat", opened);
  return true;
}

/**
 * @param {RunOrigin} one
 * @param {RunOrigin} other of an address, where numbers are texts
 */
function isSame(one, other) {
  /** @param {RunOrigin} origin */
  const key = ({ model, prompt, options, branches }) => {
    const { temperature, max_new_tokens, pool_size, seed, sampler } = options;
    const numbers = [temperature, max_new_tokens, pool_size, seed].map(Number);
    return JSON.stringify([model, prompt.trim(), numbers, sampler, branches]);
  };
  return key(one) === key(other);
}
