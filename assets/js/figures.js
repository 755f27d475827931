// Plotly figures that are updated in place.
import { config } from "./config.js";
import { delay, node } from "./dom.js";

const FONT = "system-ui, sans-serif";
/** The last one would offer to upload the figure to a server of Plotly's maker. */
const OPTIONS = { displaylogo: false, responsive: true, displayModeBar: false, showSendToCloud: false };

/** @type {Promise<PlotlyModule> | null} */
let loading = null;

/** Plotly, loaded once, as soon as the page has a figure. */
export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const onload = () => resolve(/** @type {PlotlyModule} */ (window.Plotly));
    const onerror = () => {
      loading = null; // the next render tries again
      reject(new Error("Plotly could not be loaded."));
    };
    document.head.append(node("script", { src: config().plotly_url, onload, onerror }));
  });
  return loading;
}

const DASHES = ["solid", "dash", "dashdot", "longdash", "dot"];

/**
 * The line of one of several series; colour and dash tell them apart.
 * @param {Palette} colours
 * @param {number} index of the series
 */
export function seriesLine(colours, index) {
  const hues = [colours.accent, colours.second, ...colours.others];
  return { color: hues[index % hues.length], width: 2, dash: DASHES[index % DASHES.length] };
}

/**
 * The look of a curve with a marker at each point, for the legend and the plot.
 * @param {string} name
 * @param {PlotlyAttributes} line
 * @param {number} size of the markers
 */
export function markedLine(name, line, size) {
  return { type: "scatter", mode: "lines+markers", name, line, marker: { color: line.color, size } };
}

/**
 * The layout of a plot of curves, with the legend above it.
 * @param {Palette} colours
 * @param {PlotlyAttributes} xaxis
 * @param {PlotlyAttributes} yaxis
 * @returns {PlotlyAttributes}
 */
export function curveLayout(colours, xaxis, yaxis) {
  const axis = { gridcolor: colours.grid, zeroline: false };
  return {
    margin: { l: 48, r: 8, t: 8, b: 44 },
    showlegend: true,
    uirevision: "keep",
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
  };
}

/**
 * The bars of 95 % intervals around scores.
 * @param {{ value: number, low: number, high: number }[]} scores
 * @param {string} color
 */
export function intervalBars(scores, color) {
  return {
    type: "data",
    symmetric: false,
    thickness: 1.2,
    width: 4,
    color,
    array: scores.map(({ high, value }) => high - value),
    arrayminus: scores.map(({ low, value }) => value - low),
  };
}

/**
 * A dotted horizontal line with a label.
 * @param {number} score
 * @param {Palette} colours
 * @param {PlotlyAttributes} label
 * @param {string} axis "" or the number of the axes
 */
export function scoreLine(score, colours, label, axis = "") {
  return {
    type: "line",
    xref: `x${axis} domain`,
    yref: `y${axis}`,
    x0: 0,
    x1: 1,
    y0: score,
    y1: score,
    layer: "below",
    line: { color: colours.quiet, width: 1.2, dash: "dot" },
    label: { ...label, font: { size: 11 } },
  };
}

/** @returns {Palette} */
function palette() {
  const style = getComputedStyle(document.querySelector(".gradio-container") ?? document.body);
  const dark = document.body.classList.contains("dark");
  /**
   * @param {string} name of a CSS variable of the theme
   * @param {string} fallback
   */
  const variable = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
  return {
    accent: variable("--calm-accent", dark ? "#7db4ff" : "#0f62c9"),
    second: variable("--calm-second", dark ? "#f0a35e" : "#b5540b"),
    others: dark ? ["#b99df5", "#6fcf97", "#f29bb2"] : ["#6b3fc4", "#1c7c4a", "#b0305c"],
    quiet: variable("--calm-quiet", "#5b6472"),
    paper: variable("--body-background-fill", dark ? "#0b0f19" : "#ffffff"),
    ink: dark ? "#e6e9ef" : "#1f2733",
    grid: dark ? "rgba(170,180,195,0.18)" : "rgba(100,110,125,0.18)",
    cloud: dark ? "rgba(170,180,195,0.38)" : "rgba(100,110,125,0.32)",
  };
}

/**
 * @param {Palette} colours
 * @param {PlotlyAttributes} layout
 */
function withDefaults(colours, layout) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colours.ink, size: 12, family: FONT },
    margin: { l: 8, r: 8, t: 8, b: 8 },
    hoverlabel: {
      font: { family: FONT, size: 13, color: colours.ink },
      bgcolor: colours.paper,
      bordercolor: colours.quiet,
    },
    modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: colours.quiet, activecolor: colours.accent },
    ...layout,
  };
}

/**
 * Keeps a figure up to date: it is rendered when it first shows, resized later, and repainted when the page changes
 * between light and dark.
 * @param {HTMLElement} element of the component
 * @param {HTMLElement} target of the figure
 * @param {(colours: Palette) => Figure | null} build null where there is nothing to render yet
 * @param {{ rebuildOnResize?: boolean, onFirstRender?: (target: PlotlyElement) => void }} [options]
 */
export function createFigure(element, target, build, { rebuildOnResize = false, onFirstRender } = {}) {
  const plot = /** @type {PlotlyElement} */ (target);
  let rendered = false;
  let isStale = false; // something changed while the plot was hidden
  loadPlotly();

  const render = async () => {
    isStale = !plot.clientWidth; // a hidden tab has no width
    if (isStale) return;
    const plotly = await loadPlotly();
    const colours = palette();
    const figure = build(colours);
    if (!figure) return;
    plotly.react(plot, figure.traces, withDefaults(colours, figure.layout), { ...OPTIONS, ...figure.config });
    if (!rendered) onFirstRender?.(plot);
    rendered = true;
    figure.onRender?.();
  };
  /** Renders from nothing, which a change between two and three dimensions needs. */
  const reset = async () => {
    if (rendered) (await loadPlotly()).purge(plot);
    rendered = false;
    await render();
  };

  onThemeChange(element, render);
  new ResizeObserver(async () => {
    if (!plot.clientWidth) return;
    if (!rendered || isStale || rebuildOnResize) await render();
    if (rendered) (await loadPlotly()).Plots.resize(plot);
  }).observe(plot);

  return { render, reset, plot, isRendered: () => rendered };
}

/**
 * Calls a function with pauses of three times its duration. Calls during a pause become one at its end.
 * @param {() => Promise<void>} render
 */
export function paced(render) {
  let isBusy = false;
  let isWanted = false;
  return async () => {
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    try {
      while (isWanted) {
        isWanted = false;
        const start = performance.now();
        await render();
        await delay(3 * (performance.now() - start));
      }
    } finally {
      isBusy = false;
    }
  };
}

/**
 * @param {HTMLElement} element
 * @param {() => void} callback
 */
function onThemeChange(element, callback) {
  const observer = new MutationObserver(() => (element.isConnected ? callback() : observer.disconnect()));
  observer.observe(document.body, { attributes: true, attributeFilter: ["class"] });
}

/**
 * Calls back once, as soon as an element shows.
 * @param {HTMLElement} element
 * @param {() => void} callback
 */
export function whenShown(element, callback) {
  const observer = new ResizeObserver(() => {
    if (element.clientWidth === 0) return;
    observer.disconnect();
    callback();
  });
  observer.observe(element);
}
