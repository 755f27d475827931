// Gradio's footer. The page's CSS cannot reach it: Gradio prefixes every selector with the container of the content.
import { node, waitFor } from "./dom.js";

/** Gradio hides the first of two links on a phone, and leaves the dot between them. */
const PHONE_STYLE = "@media (max-width: 640px) { footer .divider { display: none !important; } }";

/** Takes the names from the footer's pictures, which a screen reader would read beside the same words. */
export function repairFooter() {
  document.head.append(node("style", {}, PHONE_STYLE));
  const images = () => {
    const found = document.querySelectorAll("footer img");
    return found.length ? found : null;
  };
  waitFor(images, "The page has no footer.", 60)
    .then((found) => {
      for (const image of found) image.setAttribute("alt", "");
    })
    .catch(() => {}); // a page that is embedded without its footer
}
