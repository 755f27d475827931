// Search for training chunks by text, and the training chunks nearest to a point of the map.
import { button, find, node, plural, visible } from "./dom.js";
import { mapChunks } from "./map_files.js";
import { answerOf } from "./server.js";
import { store } from "./store.js";

const MAX_LISTED = 8;
const MAX_MATCHES = 300;

/**
 * @param {HTMLElement} element of the map component
 * @param {MapServer} server
 * @param {() => void} onchange
 */
export function createMapSearch(element, server, onchange) {
  const input = /** @type {HTMLInputElement} */ (find(element, "[data-search]"));
  const list = find(element, "[data-found]");
  const near = createNearestList(find(element, "[data-near]"), (index, text) => choose(index, text));
  /** @type {number[]} */
  let matches = [];
  /** @type {number | null} */
  let chosen = null;
  let model = "";

  const search = () => {
    if (store.shown?.model !== model) chosen = null;
    model = store.shown?.model ?? "";
    const chunks = mapChunks(model, search);
    const query = input.value.trim().toLowerCase();
    matches = [];
    if (query && chunks) {
      chunks.texts.forEach((text, i) => {
        if (matches.length < MAX_MATCHES && text.toLowerCase().includes(query)) matches.push(i);
      });
    }
    list.hidden = !query;
    list.replaceChildren(...(chunks ? matchList(chunks) : []));
    onchange();
  };

  /** @param {MapChunks} chunks */
  const matchList = (chunks) => {
    const listed = matches
      .slice(0, MAX_LISTED)
      .map((i) => chunkButton(chunks.texts[i], () => choose(i, chunks.texts[i])));
    const more = matches.length === MAX_MATCHES ? "or more " : "";
    const count = node("span", { class: "calm-note", role: "status" }, `${plural(matches.length, "chunk")} ${more}`);
    return [count, ...listed];
  };

  /**
   * @param {number} index of the chunk on the map
   * @param {string} text
   */
  const choose = (index, text) => {
    chosen = index;
    model = store.shown?.model ?? "";
    onchange();
    near.render(text, () => server.find_nearest({ model, chunks: [], index }));
  };

  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") list.querySelector("button")?.click();
    if (event.key !== "Escape" && event.key !== "Enter") return;
    event.preventDefault();
    if (event.key === "Escape") {
      input.value = "";
      search();
    }
  });

  store.subscribe("run", element, () => {
    if (store.shown?.model === model) return;
    near.clear();
    search();
  });

  return {
    /** What the map highlights. */
    state: () => ({ matches, chosen }),
    choose,
    /**
     * Lists the training chunks nearest to the chunk of a step.
     * @param {RunPayload} run
     * @param {StepPayload} step
     */
    chooseStep(run, step) {
      chosen = null;
      const request = { model: run.model, chunks: [step.token_ids], index: null };
      near.render(step.text, () => server.find_nearest(request));
    },
  };
}

/**
 * @param {string} text
 * @param {() => void} onclick
 */
function chunkButton(text, onclick) {
  return button(`“${visible(text)}”`, onclick);
}

/**
 * @param {HTMLElement} target
 * @param {(index: number, text: string) => void} onchoose
 */
function createNearestList(target, onchoose) {
  const heading = node("h3", {});
  const list = node("ol", { class: "calm-near" });
  target.append(heading, list);
  let requests = 0;

  /**
   * @param {string} text
   * @param {() => Promise<NearestChunks | ErrorPayload>} request
   */
  const render = async (text, request) => {
    requests += 1;
    const number = requests;
    const answer = await answerOf(request());
    if (number !== requests) return; // another point was chosen meanwhile
    target.hidden = false;
    const isError = "error" in answer;
    heading.textContent = isError
      ? answer.error
      : `Training chunks nearest to “${visible(text)}”, with their distances`;
    list.replaceChildren(...(isError ? [] : answer.neighbours.map(item)));
  };

  /** @param {MapNeighbour} neighbour */
  const item = ({ text, index, count, distance }) => {
    const figures = node("span", { class: "figure" }, `${plural(count, "occurrence")} · ${distance.toFixed(2)}`);
    return node(
      "li",
      {},
      chunkButton(text, () => onchoose(index, text)),
      figures,
    );
  };

  const clear = () => {
    requests += 1; // an answer that is still on its way belongs to the earlier model
    target.hidden = true;
  };

  return { render, clear };
}
