// The draws of each generative head at a position of a story, next to the chunks that the language allows.
import { find, node, percent, visible } from "./dom.js";
import { createFigure } from "./figures.js";

const NARROW = 640; // pixels
const CONTEXT_SHOWN = 30; // characters

/** @param {Component<HeadsPayload>} component */
export function mountHeadDrawsPlot({ element, props, watch }) {
  const select = /** @type {HTMLSelectElement} */ (find(element, "[data-place]"));
  const target = find(element, ".calm-plot");
  /** @param {Palette} colours */
  const build = (colours) => {
    const place = props.value?.places[Number(select.value)];
    return place ? drawsFigure(place, colours, target.clientWidth < NARROW) : null;
  };
  const figure = createFigure(element, target, build, { rebuildOnResize: true }); // the layout depends on the width
  const fill = () => {
    const places = props.value?.places ?? [];
    select.replaceChildren(...places.map(({ context }, i) => node("option", { value: i }, contextEnd(context))));
    figure.render();
  };
  select.addEventListener("change", figure.render);
  watch("value", fill);
  fill();
}

/** @param {string} context */
function contextEnd(context) {
  return `… ${visible(context.slice(-CONTEXT_SHOWN)).trimStart()} …`;
}

/**
 * @param {Place} place
 * @param {Palette} colours
 * @param {boolean} narrow
 * @returns {Figure}
 */
function drawsFigure(place, colours, narrow) {
  const axis = { gridcolor: colours.grid, zeroline: false, showticklabels: false };
  /** @type {PlotlyAttributes} */
  const axes = {};
  // The legend needs a panel with all kinds of points.
  const legend = place.draws.findIndex((draws) => ![0, 1].includes(impossibleShare(place, draws)));
  const traces = place.draws.flatMap((draws, i) => {
    const number = i ? String(i + 1) : "";
    axes[`xaxis${number}`] = { ...axis, ...(i ? { matches: "x" } : {}) };
    axes[`yaxis${number}`] = { ...axis, ...(i ? { matches: "y" } : {}) };
    const panel = { xaxis: `x${number}`, yaxis: `y${number}`, showlegend: i === legend };
    return panelTraces(place, draws, colours).map((trace) => ({ ...trace, ...panel }));
  });
  return {
    traces,
    layout: {
      margin: { l: 8, r: 8, t: 28, b: 8 },
      uirevision: "keep",
      legend: { orientation: "h", x: 0, y: -0.02, yanchor: "top" },
      grid: {
        pattern: "independent",
        rows: narrow ? 2 : 1,
        columns: narrow ? 2 : place.draws.length,
        xgap: 0.06,
        ygap: 0.12,
      },
      annotations: place.draws.map((draws, i) => panelTitle(place, draws, i ? String(i + 1) : "")),
      ...axes,
    },
  };
}

/**
 * @param {Place} place
 * @param {HeadDraws} draws
 */
function impossibleShare({ chunks }, draws) {
  return draws.chunks.filter((chunk) => !chunks[chunk].probability).length / draws.chunks.length;
}

/**
 * @param {Place} place
 * @param {HeadDraws} draws
 * @param {string} number of the axes
 */
function panelTitle(place, draws, number) {
  return {
    text: `${draws.name}: ${percent(impossibleShare(place, draws))} impossible`,
    xref: `x${number} domain`,
    yref: `y${number} domain`,
    x: 0,
    y: 1,
    xanchor: "left",
    yanchor: "bottom",
    showarrow: false,
    font: { size: 12 },
  };
}

/**
 * @param {Place} place
 * @param {HeadDraws} draws
 * @param {Palette} colours
 */
function panelTraces(place, draws, colours) {
  const indices = draws.chunks.map((_, i) => i);
  const possible = indices.filter((i) => place.chunks[draws.chunks[i]].probability);
  const impossible = indices.filter((i) => !place.chunks[draws.chunks[i]].probability);
  /**
   * @param {number[]} chosen
   * @param {string} name
   * @param {PlotlyAttributes} marker
   */
  const cloud = (chosen, name, marker) => ({
    type: "scatter",
    mode: "markers",
    name,
    legendgroup: name,
    marker,
    x: chosen.map((i) => draws.points[i][0]),
    y: chosen.map((i) => draws.points[i][1]),
    customdata: chosen.map((i) => visible(place.chunks[draws.chunks[i]].text)),
    hovertemplate: `%{customdata}<extra>${name}</extra>`,
  });
  const likely = place.likely.map((_, i) => place.chunks[i]);
  const middle = place.likely.reduce((sum, [x]) => sum + x, 0) / place.likely.length;
  /** @param {number[]} point @param {number} i */
  const side = ([x], i) => `${i % 2 ? "bottom" : "top"} ${x > middle ? "left" : "right"}`; // names point inwards
  return [
    cloud(possible, "draw of a possible chunk", { color: colours.accent, size: 5, opacity: 0.6 }),
    cloud(impossible, "draw of an impossible chunk", { color: colours.second, size: 6, symbol: "x-thin-open" }),
    {
      type: "scatter",
      mode: "markers+text",
      name: "likely chunk of the language",
      legendgroup: "likely",
      marker: { color: colours.ink, size: 10, symbol: "square-open", line: { width: 2 } },
      x: place.likely.map(([x]) => x),
      y: place.likely.map(([, y]) => y),
      text: likely.map(({ text }) => visible(text).trim()),
      textposition: place.likely.map(side),
      textfont: { size: 11, color: colours.ink },
      customdata: likely.map(({ probability }) => percent(probability)),
      hovertemplate: "%{text}: %{customdata}<extra>language</extra>",
    },
  ];
}
