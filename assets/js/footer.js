// Gradio names the pictures in its footer a second time, beside the words; a screen reader would read both.
import { waitFor } from "./dom.js";

export function muteFooterImages() {
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
