// The steps of the shown run as a chart and a table: what was measured at each of them.
import { entropy } from "./certainty.js";
import { csv } from "./csv.js";
import { download, node, visible } from "./dom.js";
import { createFigure } from "./figures.js";
import { escaped } from "./map_series.js";
import { action } from "./run_card.js";
import { store } from "./store.js";

/**
 * A quantity of a step; null where the step was not measured.
 * @typedef {{ column: string, label: string, decimals: number, of: (step: StepPayload) => number | null }} Quantity
 */

/** @param {StepPayload} step */
const milliseconds = (step) => (step.chosen_by_hand ? null : 1000 * step.seconds);
/** @type {Quantity} */
const ENTROPY = { column: "entropy_bits", label: "entropy (bits)", decimals: 2, of: entropy };
/** @type {Quantity} */
const TIME = { column: "milliseconds", label: "time (ms)", decimals: 1, of: milliseconds };
/** @type {Quantity} */
const SAMPLES = { column: "samples", label: "samples drawn", decimals: 0, of: ({ draws }) => draws };
/** @type {Quantity} */
const ERROR = {
  column: "prediction_error",
  label: "prediction error",
  decimals: 3,
  of: ({ distance = null }) => distance,
};

/**
 * The quantities of a run. A token-by-token model draws no samples of vectors and predicts none.
 * @param {RunPayload} run
 */
function quantities(run) {
  const isCalm = run.steps.some((step) => step.distance !== undefined);
  return isCalm ? [SAMPLES, ENTROPY, ERROR, TIME] : [ENTROPY, TIME];
}

/**
 * Chart and table of the shown run, rendered while they are open. Pointer and clicks mark the same step as in the text.
 * @param {HTMLElement} element of the component
 * @param {HTMLDetailsElement} details
 */
export function createRunSteps(element, details) {
  const select = node("select", { class: "calm-select", "aria-label": "quantity of the chart" });
  const target = node("div", { class: "calm-plot steps", role: "figure", "aria-label": "a quantity over the steps" });
  const head = node("thead");
  const body = node("tbody");
  const label = "table of the steps";
  const table = node("div", {
    class: "calm-scores calm-step-table",
    tabindex: "0",
    role: "region",
    "aria-label": label,
  });
  table.append(node("table", {}, head, body));
  const exported = action("Export CSV", "Exported", () => {
    if (store.shown) exportSteps(store.shown);
  });
  const chart = node("div", {}, node("div", { class: "calm-tools" }, select), target);
  details.append(chart, table, node("div", { class: "calm-actions" }, exported));

  /** @param {RunPayload} run */
  const shownQuantity = (run) => quantities(run).find(({ column }) => column === select.value) ?? ENTROPY;
  const figure = createFigure(
    element,
    target,
    (colours) => store.shown && stepsFigure(store.shown, shownQuantity(store.shown), colours),
    { onFirstRender: linkToStore },
  );
  select.addEventListener("change", figure.render);

  let rendered = { runId: "", columns: "" };
  const mark = () => {
    if (!details.open) return;
    [...body.children].forEach((row, i) => {
      row.setAttribute("aria-current", String(i === store.currentStep));
    });
    figure.render();
  };
  const render = () => {
    const run = store.shown;
    if (!details.open || !run) return;
    const shown = quantities(run);
    const columns = shown.map(({ column }) => column).join();
    if (rendered.columns !== columns) {
      select.replaceChildren(...shown.map(({ column, label }) => node("option", { value: column }, label)));
      select.value = ENTROPY.column;
      head.replaceChildren(row(["step", "text", ...shown.map(({ label }) => label)], "th"));
    }
    const isSame = rendered.columns === columns && rendered.runId === run.run_id;
    if (!isSame || body.children.length > run.steps.length) body.replaceChildren();
    rendered = { runId: run.run_id, columns };
    for (const step of run.steps.slice(body.children.length)) {
      const figures = shown.map(({ of, decimals }) => of(step)?.toFixed(decimals) ?? "–");
      body.append(row([String(step.index + 1), visible(step.text), ...figures], "td"));
    }
    mark();
  };
  body.addEventListener("click", ({ target }) => {
    const line = target instanceof Element ? target.closest("tr") : null;
    if (line) store.selectStep([...body.children].indexOf(line));
  });
  details.addEventListener("toggle", render);
  store.subscribe("run", element, render);
  store.subscribe("step", element, mark);
}

/** @param {PlotlyElement} plot */
function linkToStore(plot) {
  /** @type {number | null} */
  let hovered = null;
  plot.on("plotly_hover", ({ points: [point] }) => {
    hovered = point.customdata;
    store.previewStep(hovered);
  });
  // Plotly forgets the hovered point when the chart is drawn again, as a preview does, and then reports no click.
  plot.addEventListener("pointerdown", () => hovered !== null && store.selectStep(hovered), true);
  plot.addEventListener("pointerleave", () => {
    hovered = null;
    store.previewStep(null);
  });
}

/**
 * @param {string[]} texts
 * @param {"td" | "th"} tag
 */
function row(texts, tag) {
  return node("tr", {}, ...texts.map((text) => node(tag, tag === "th" ? { scope: "col" } : {}, text)));
}

/** @param {RunPayload} run */
function exportSteps(run) {
  const measured = quantities(run);
  const rows = run.steps.map((step) => [step.index + 1, step.text, ...measured.map(({ of }) => of(step))]);
  const columns = ["step", "text", ...measured.map(({ column }) => column)];
  download(`calm-${run.run_id}-steps.csv`, "text/csv", csv(columns, rows));
}

/**
 * @param {RunPayload} run
 * @param {Quantity} quantity
 * @param {Palette} colours
 * @returns {Figure}
 */
function stepsFigure({ run_id, steps }, { label, decimals, of }, colours) {
  const current = store.currentStep;
  const marked = current === null ? [] : [steps[current]];
  /** @param {StepPayload[]} shown */
  const points = (shown) => ({
    type: "scatter",
    x: shown.map((step) => step.index + 1),
    y: shown.map(of),
    customdata: shown.map((step) => step.index),
    text: shown.map((step) => escaped(step.text)),
    hovertemplate: `step %{x}: %{y:.${decimals}f}<br>%{text}<extra></extra>`,
  });
  const axis = { gridcolor: colours.grid, zeroline: false };
  return {
    traces: [
      { ...points(steps), mode: "lines+markers", line: { color: colours.accent, width: 1.5 }, marker: { size: 5 } },
      {
        ...points(marked),
        mode: "markers",
        hoverinfo: "skip",
        marker: { color: colours.second, size: 13, symbol: "circle-open", line: { width: 2.5 } },
      },
    ],
    layout: {
      margin: { l: 48, r: 8, t: 8, b: 40 },
      showlegend: false,
      uirevision: run_id,
      xaxis: { ...axis, title: { text: "step" } },
      yaxis: { ...axis, title: { text: label }, rangemode: "tozero" },
    },
  };
}
