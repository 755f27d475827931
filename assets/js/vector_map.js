// The map of chunk vectors with the path of the shown run, and a map fitted to the visitor's own runs.
import { createChunkText } from "./chunk_text.js";
import { config } from "./config.js";
import { find } from "./dom.js";
import { createFigure } from "./figures.js";
import { exportMap } from "./map_export.js";
import { createPlayer } from "./map_player.js";
import { mapLayout, mapTraces, PATH } from "./map_traces.js";
import { store } from "./store.js";

/** Plotly rebuilds a figure if nested lists of its configuration are set, so buttons are removed instead of listed. */
const CONFIG = {
  scrollZoom: true,
  displayModeBar: "hover",
  modeBarButtonsToRemove: ["toImage", "lasso2d", "select2d", "autoScale2d", "tableRotation", "resetCameraLastSave3d"],
};

/** @type {Map<string, MapFile | null>} the map file of each model; null while it is fetched */
const files = new Map();

/**
 * The map file of a model; null until it has arrived.
 * @param {string} model
 * @param {() => void} onload
 */
function mapFile(model, onload) {
  const url = config().map_urls[model];
  if (url && !files.has(model)) {
    files.set(model, null);
    fetch(url)
      .then((response) => response.json())
      .then((file) => {
        files.set(model, file);
        onload();
      })
      .catch(() => files.delete(model)); // the next render tries again
  }
  return files.get(model) ?? null;
}

/** @param {Component<RunPayload, MapServer>} component */
export function mountVectorMapPlot({ element, props, watch, server }) {
  const controls = createControls(element);
  const strip = find(element, ".calm-text");
  const text = createChunkText(strip);
  const player = createPlayer(element);
  const drawCloud = /** @type {HTMLButtonElement} */ (find(element, "[data-cloud]"));

  const figure = createFigure(element, find(element, ".calm-plot"), build, { onFirstRender: followPointer });

  /** @param {Palette} colours */
  function build(colours) {
    const run = store.shown;
    const map = run && mapFile(run.model, render);
    if (!map) return null;
    const { runs, markedStep, fit } = store;
    const isOther = (/** @type {RunPayload} */ other) => other.run_id !== run.run_id && other.model === run.model;
    const otherRuns = controls.showOthers() ? [...runs.values()].filter(isOther) : [];
    const cloud = markedStep === null ? null : store.cloud(run.run_id, markedStep);
    const view = { run, markedStep, fit, map, otherRuns, cloud, ...controls.view() };
    return { traces: mapTraces(view, colours), layout: mapLayout(view, colours), config: CONFIG };
  }

  function render() {
    const run = store.shown;
    if (!run) return;
    text.render(run);
    text.mark(store.markedStep);
    scrollToMarked(strip);
    player.render(run, run.model in config().map_urls);
    drawCloud.disabled = run.steps.length === 0;
    figure.render();
  }

  drawCloud.addEventListener("click", async () => {
    const run = store.shown;
    const step = store.currentStep;
    if (!run || step === null) return;
    drawCloud.disabled = true;
    const error = await requestCloud(server, run, step);
    drawCloud.disabled = false;
    if (error) find(element, "[data-status]").textContent = error;
    else store.selectStep(step);
  });
  for (const button of element.querySelectorAll("[data-export]")) {
    const kind = /** @type {HTMLElement} */ (button).dataset.export ?? "";
    button.addEventListener("click", () => {
      if (store.shown && figure.isRendered()) exportMap(kind, figure.plot, store.shown);
    });
  }
  controls.onchange(render, figure.reset);
  store.subscribe("fit", element, () => controls.showFit());
  store.subscribe("run", element, render);
  store.subscribe("step", element, render);
  store.subscribe("cloud", element, render);
  watch("value", () => store.receive(props.value));
  if (!store.shown) store.receive(props.value); // a tab that opens late has an old value
  render();
}

/** @param {PlotlyElement} plot */
function followPointer(plot) {
  /** @param {(step: number | null) => void} act */
  const onPath = (act) => (/** @type {PlotlyPointEvent} */ event) => {
    const [point] = event.points;
    if (point.data.name === PATH) act(point.customdata);
  };
  plot.on(
    "plotly_hover",
    onPath((step) => store.previewStep(step)),
  );
  plot.on(
    "plotly_unhover",
    onPath(() => store.previewStep(null)),
  );
  plot.on(
    "plotly_click",
    onPath((step) => step !== null && store.selectStep(step)),
  );
}

/**
 * Scrolls the strip, and not the page, as far as the marked chunk needs.
 * @param {HTMLElement} strip
 */
function scrollToMarked(strip) {
  const marked = strip.querySelector(".selected");
  const box = strip.parentElement;
  if (!marked || !box) return;
  const [outer, inner] = [box, marked].map((part) => part.getBoundingClientRect());
  box.scrollTop += Math.min(0, inner.top - outer.top) + Math.max(0, inner.bottom - outer.bottom);
}

/**
 * @param {MapServer} server
 * @param {RunPayload} run
 * @param {number} stepIndex
 * @returns {Promise<string | null>} an error message, or null once the cloud is in the store
 */
async function requestCloud(server, run, stepIndex) {
  const prefix_chunks = run.steps.slice(0, stepIndex).map((step) => step.token_ids);
  const answer = await server.draw_cloud({ model: run.model, prompt: run.prompt, prefix_chunks });
  if ("error" in answer) return answer.error;
  store.addCloud(run.run_id, stepIndex, answer);
  return null;
}

/**
 * The controls above the map.
 * @param {HTMLElement} element
 */
function createControls(element) {
  /** @param {string} name */
  const select = (name) => /** @type {HTMLSelectElement} */ (find(element, `select[data-${name}]`));
  /** @param {string} name */
  const checkbox = (name) => /** @type {HTMLInputElement} */ (find(element, `input[data-${name}]`));
  const [layout, colouring] = [select("layout"), select("colour")];
  const [encoded, others] = [checkbox("encoded"), checkbox("others")];
  const buttons = /** @type {HTMLButtonElement[]} */ ([...element.querySelectorAll("button[data-dimensions]")]);
  /** @type {2 | 3} */
  let dimensions = 2;
  let reset = () => {};

  /** @param {number} count */
  const setDimensions = (count) => {
    dimensions = count === 3 ? 3 : 2;
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.dimensions) === dimensions));
    }
    reset();
  };

  return {
    showOthers: () => others.checked,
    view: () => ({
      dimensions,
      layout: /** @type {"umap" | "principal" | "own"} */ (layout.value),
      colouring: colouring.value,
      showEncoded: encoded.checked,
    }),
    showFit() {
      find(element, "option[value=own]").removeAttribute("disabled");
      layout.value = "own";
      setDimensions(store.fit?.dimensions ?? 2);
    },
    /**
     * @param {() => void} render
     * @param {() => void} renderAnew
     */
    onchange(render, renderAnew) {
      reset = renderAnew;
      for (const control of [colouring, encoded, others]) control.addEventListener("change", render);
      layout.addEventListener("change", () =>
        layout.value === "own" ? setDimensions(store.fit?.dimensions ?? 2) : render(),
      );
      for (const button of buttons) {
        button.addEventListener("click", () => {
          const count = Number(button.dataset.dimensions);
          if (layout.value === "own" && store.fit?.dimensions !== count) layout.value = "umap";
          setDimensions(count);
        });
      }
    },
  };
}

/** @param {Component<FittedMap>} component */
export function mountFitResult({ props, watch }) {
  watch("value", () => props.value && store.setFit(props.value));
}

/**
 * The finished runs of a model in this visit, from which a map can be fitted.
 * @param {string} model
 * @returns {OwnRun[]}
 */
export function ownRuns(model) {
  return [...store.runs.values()].flatMap(({ run_id, model: other, vectors = [] }) =>
    other === model && vectors.length ? [{ run_id, vectors }] : [],
  );
}
