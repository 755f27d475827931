// Gradio's footer.
import { waitFor } from "./dom.js";

/** Empties the alt texts of the footer's pictures: they repeat the words beside them, and a screen reader reads both. */
export function repairFooter() {
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
