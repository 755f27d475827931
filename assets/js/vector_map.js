// The map of chunk vectors with the path of the shown run, and a map fitted to the visitor's own runs.
import { createChunkText } from "./chunk_text.js";
import { find, node } from "./dom.js";
import { createFigure, paced } from "./figures.js";
import { listenForClicks } from "./map_clicks.js";
import { createMapControls } from "./map_controls.js";
import { exportMap } from "./map_export.js";
import { addMap, hasMap, mapChunks, mappedModels, mapSummary } from "./map_files.js";
import { PATH } from "./map_path.js";
import { createPlayer } from "./map_player.js";
import { createFlight, createPoolPlaces } from "./map_pool.js";
import { createMapSearch } from "./map_search.js";
import { planeName } from "./map_series.js";
import { CHUNKS, MATCHES, mapLayout, mapTraces } from "./map_traces.js";
import { createMapWindow } from "./map_window.js";
import { createRunCard, generationCard } from "./run_card.js";
import { createRunReader } from "./run_lines.js";
import { answerOf } from "./server.js";
import { store as pageStore } from "./store.js";

/** Plotly rebuilds a figure if nested lists of its configuration are set, so buttons are removed instead of listed. */
const CONFIG = {
  scrollZoom: true,
  displayModeBar: "hover",
  modeBarButtonsToRemove: ["toImage", "lasso2d", "select2d", "autoScale2d", "tableRotation", "resetCameraLastSave3d"],
};
/** The page scrolls over a small map beside the text. */
const COMPACT_CONFIG = { scrollZoom: false, displayModeBar: false };

/**
 * @typedef {object} MapOptions
 * @property {2 | 3} dimensions
 * @property {"umap" | "principal" | "own"} layout
 * @property {string} colouring
 * @property {boolean} showEncoded
 * @property {boolean} showWhole
 * @property {boolean} showChunks
 * @property {boolean} showOthers
 * @property {number[]} matches
 * @property {number | null} chosen
 */

/** @type {MapOptions} */
const COMPACT_OPTIONS = {
  dimensions: 2,
  layout: "umap",
  colouring: "",
  showEncoded: false,
  showWhole: false,
  showChunks: false,
  showOthers: false,
  matches: [],
  chosen: null,
};

/**
 * Draws the map in an element and keeps it up to date with the store: regions and density of the training chunks, the
 * last steps of the shown run as arrows, and the candidates of the current step.
 *
 * The element needs a height. In compact mode the map has no legend, no tools and fewer labels; a click on a point of
 * the path pins its step in either mode.
 * @param {object} parts
 * @param {HTMLElement} parts.container
 * @param {typeof pageStore} [parts.store]
 * @param {boolean} [parts.compact]
 * @param {PlaceServer | null} [parts.server] places candidates; without it the map shows none
 * @param {() => MapOptions} [parts.options] what the controls ask for
 * @param {(index: number, text: string) => void} [parts.onchunk] a training chunk was clicked
 * @param {(step: StepPayload) => void} [parts.onstep] a step of the path was clicked
 */
export function mountVectorMap({
  container,
  store = pageStore,
  compact = false,
  server = null,
  options = () => COMPACT_OPTIONS,
  onchunk,
  onstep,
}) {
  container.classList.add("calm-map");
  const label = "map of chunk vectors with the path of the run";
  const target = node("div", {
    class: `calm-plot map${compact ? " compact" : ""}`,
    role: "figure",
    "aria-label": label,
  });
  container.append(target);
  const places = createPoolPlaces(server, () => renderGrowing());
  const figure = createFigure(container, target, build, { onFirstRender: listen });
  const flight = createFlight(container, figure.plot);
  const mapWindow = createMapWindow(figure.plot);
  const render = figure.render;

  /** @param {Palette} colours */
  function build(colours) {
    const run = store.shown;
    const summary = run && mapSummary(run.model, render);
    if (!run || !summary) return null;
    const chosen = options();
    const { fit, markedStep, currentStep } = store;
    const isOwn = chosen.layout === "own";
    const showChunks =
      chosen.showChunks || isOwn || chosen.dimensions === 3 || mapWindow.isZoomed(chosen.layout, summary);
    const needsChunks = (showChunks && !isOwn) || chosen.matches.length > 0 || chosen.chosen !== null;
    const isOther = (/** @type {RunPayload} */ other) => other.run_id !== run.run_id && other.model === run.model;
    const view = {
      ...chosen,
      ...{ run, markedStep, currentStep, fit, summary, showChunks, compact },
      ...mapWindow.shape(chosen.layout, summary, fit),
      otherRuns: chosen.showOthers ? [...store.runs.values()].filter(isOther) : [],
      cloud: markedStep === null ? null : store.cloud(run.run_id, markedStep),
      pool: isOwn ? [] : places.placed(run, currentStep),
      chunks: needsChunks ? mapChunks(run.model, render) : null,
    };
    return {
      traces: mapTraces(view, colours),
      layout: mapLayout(view, colours),
      config: compact ? COMPACT_CONFIG : CONFIG,
      onRender: () => collapse(view),
    };
  }

  /** @param {import("./map_series.js").MapView} view */
  function collapse({ run, currentStep, pool, dimensions, layout }) {
    if (currentStep === null || dimensions === 3 || layout === "own") return;
    const { candidates, predicted } = run.steps[currentStep];
    if (pool.length < candidates.length) return; // the others are being placed, and all fly together
    flight.fly(`${run.run_id}:${currentStep}`, pool, predicted, planeName(layout));
  }

  /** @param {PlotlyElement} plot */
  function listen(plot) {
    mapWindow.listen(render);
    plot.on("plotly_hover", ({ points: [point] }) => point.data.name === PATH && store.previewStep(point.customdata));
    plot.on("plotly_unhover", ({ points: [point] }) => point.data.name === PATH && store.previewStep(null));
    listenForClicks(
      plot,
      () => options().dimensions === 2,
      (point) => {
        if (point.data.name === PATH) {
          store.selectStep(point.customdata);
          const step = store.shown?.steps[point.customdata];
          if (step) onstep?.(step);
        } else if ([CHUNKS, MATCHES].includes(point.data.name) && options().layout !== "own") {
          const chunks = store.shown && mapChunks(store.shown.model, render);
          if (chunks) onchunk?.(point.customdata, chunks.texts[point.customdata]);
        }
      },
    );
  }

  // While a run grows, the map leaves most of the time to the text.
  const renderSoon = paced(render);
  const renderGrowing = () => (store.shown?.finished ? render() : renderSoon());
  store.subscribe("run", container, renderGrowing);
  for (const topic of /** @type {const} */ (["step", "cloud"])) store.subscribe(topic, container, render);
  render();
  return { render, reset: figure.reset, figure };
}

/** @param {Component<string, MapServer>} component */
export function mountVectorMapPlot({ element, props, watch, server, trigger }) {
  const controls = createMapControls(element);
  const strip = find(element, ".calm-text");
  const text = createChunkText(strip);
  const cardElement = node("div", { class: "calm-card" });
  const card = createRunCard(cardElement);
  find(element, ".calm-strip").after(cardElement);
  const player = createPlayer(element);
  const drawCloud = /** @type {HTMLButtonElement} */ (find(element, "[data-cloud]"));
  const search = createMapSearch(element, server, () => map.render());
  const map = mountVectorMap({
    container: find(element, "[data-map]"),
    server,
    options: () => ({ ...controls.options(), ...search.state() }),
    onchunk: search.choose,
    onstep: (step) => pageStore.shown && search.chooseStep(pageStore.shown, step),
  });
  const noMap = createNoMapNote(element, {
    choose: (model) => trigger("choose_model", { model }),
    make: (model) => trigger("make_map", { model, own: ownRuns(model) }),
  });

  const render = () => {
    const run = pageStore.shown;
    if (!run) return;
    card.render(generationCard(run));
    text.render(run);
    text.mark(pageStore.markedStep);
    scrollToMarked(strip);
    noMap.render(run.model);
    player.render(run, render);
    drawCloud.disabled = run.steps.length === 0 || !hasMap(run.model);
  };

  drawCloud.addEventListener("click", async () => {
    const run = pageStore.shown;
    const step = pageStore.currentStep;
    if (!run || step === null) return;
    drawCloud.disabled = true;
    const error = await requestCloud(server, run, step);
    drawCloud.disabled = false;
    if (error) find(element, "[data-status]").textContent = error;
    else if (pageStore.shown?.run_id === run.run_id) pageStore.selectStep(step); // the visitor may see another run by now
  });
  for (const button of element.querySelectorAll("[data-export]")) {
    const kind = /** @type {HTMLElement} */ (button).dataset.export ?? "";
    button.addEventListener("click", () => {
      if (pageStore.shown && map.figure.isRendered()) exportMap(kind, map.figure.plot, pageStore.shown);
    });
  }
  controls.onchange(map.render, map.reset);
  pageStore.subscribe("fit", element, () => controls.showFit());
  pageStore.subscribe("run", element, render);
  pageStore.subscribe("step", element, render);
  const readRun = createRunReader();
  watch("value", () => pageStore.receive(readRun(props.value)));
  pageStore.receive(readRun(props.value));
  render();
}

/**
 * Says in place of the map why a model has none, and offers one that does. The first time that it is seen for a CALM, it
 * asks for a map of that model.
 * @param {HTMLElement} element
 * @param {{ choose: (model: string) => void, make: (model: string) => void }} on
 */
function createNoMapNote(element, on) {
  const asked = new Set();
  let wanted = "";
  const ask = () => {
    if (!wanted || asked.has(wanted) || !note.checkVisibility()) return;
    asked.add(wanted);
    on.make(wanted);
  };
  const note = find(element, "[data-no-map]");
  const [sentence, choose] = [find(note, "p"), find(note, "button")];
  const [model] = mappedModels();
  choose.textContent = `Choose ${model}`;
  choose.hidden = !model;
  new IntersectionObserver(ask).observe(note);
  choose.addEventListener("click", () => {
    on.choose(model);
    const run = [...pageStore.runs.values()].findLast((other) => hasMap(other.model));
    if (run) pageStore.show(run);
  });
  return {
    /** @param {string} shown */
    render: (shown) => {
      note.hidden = hasMap(shown);
      element.classList.toggle("calm-without-map", !note.hidden);
      const isTokenByToken = pageStore.shown?.steps.every((step) => step.distance === undefined);
      wanted = note.hidden || isTokenByToken || !pageStore.shown?.finished ? "" : shown;
      ask();
      sentence.textContent = isTokenByToken
        ? `${shown} generated the shown text. It is a token-by-token model: it predicts probabilities of tokens and ` +
          "has no chunk vectors, so there is no map. A CALM predicts vectors and has one."
        : `${shown} generated the shown text and has no map yet. The page is making one: first of ` +
          "principal components, then by UMAP.";
    },
  };
}

/**
 * Scrolls the strip, and not the page, by as many whole lines as the marked chunk needs.
 * @param {HTMLElement} strip
 */
function scrollToMarked(strip) {
  const marked = strip.querySelector(".selected");
  const box = strip.parentElement;
  if (!marked || !box) return;
  const line = Number.parseFloat(getComputedStyle(strip).lineHeight);
  const [text, chunk] = [strip, marked].map((part) => part.getBoundingClientRect());
  const [first, end] = [Math.floor((chunk.top - text.top) / line), Math.ceil((chunk.bottom - text.top) / line)];
  const shown = Math.round(box.clientHeight / line);
  const top = Math.round(box.scrollTop / line);
  box.scrollTop = line * Math.min(Math.max(top, end - shown), first);
}

/**
 * @param {MapServer} server
 * @param {RunPayload} run
 * @param {number} stepIndex
 * @returns {Promise<string | null>} an error message, or null once the cloud is in the store
 */
async function requestCloud(server, run, stepIndex) {
  const prefix_chunks = run.steps.slice(0, stepIndex).map((step) => step.token_ids);
  const answer = await answerOf(server.draw_cloud({ model: run.model, prompt: run.prompt, prefix_chunks }));
  if ("error" in answer) return answer.error;
  pageStore.addCloud(run.run_id, stepIndex, answer);
  return null;
}

/** @param {Component<ModelMap>} component */
export function mountMapResult({ props, watch }) {
  watch("value", () => {
    if (!props.value) return;
    addMap(props.value.model, props.value.urls);
    pageStore.placeRuns(props.value.runs);
  });
}

/** @param {Component<FittedMap>} component */
export function mountFitResult({ props, watch }) {
  watch("value", () => props.value && pageStore.setFit(props.value));
}

/**
 * The finished runs of a model in this visit, from which a map can be fitted.
 * @param {string} model
 * @returns {OwnRun[]}
 */
export function ownRuns(model) {
  return [...pageStore.runs.values()].flatMap(({ run_id, model: other, prompt, steps, vectors = [] }) =>
    other === model && vectors.length ? [{ run_id, prompt, vectors, chunks: steps.map((step) => step.token_ids) }] : [],
  );
}
