// Gradio's footer. The page's CSS cannot reach it: Gradio prefixes every selector with the container of the content.
import { node, waitFor } from "./dom.js";

/** Gradio hides the first of two links on a phone, and leaves the dot between them. */
const PHONE_STYLE = "@media (max-width: 640px) { footer .divider { display: none !important; } }";

/** Empties the alt texts of the footer's pictures: they repeat the words beside them, and a screen reader reads both. */
export function repairFooter() {
  document.head.append(node("style", {}, PHONE_STYLE));
  const findImages = () => {
    const images = document.querySelectorAll("footer img");
    return images.length ? images : null;
  };
  waitFor(findImages, "The page has no footer.", 60)
    .then((images) => {
      for (const image of images) image.setAttribute("alt", "");
    })
    .catch(() => {}); // a page that is embedded without its footer
}
