// Exports of the vector map: a picture, a self-contained page, and a table of the steps.
import { config } from "./config.js";
import { csv } from "./csv.js";
import { download } from "./dom.js";
import { loadPlotly } from "./figures.js";

const COLUMNS = ["step", "text", "distance", "frequency"];
const POSITION_COLUMNS = ["umap_x", "umap_y", "umap3_x", "umap3_y", "umap3_z", "pca_1", "pca_2", "pca_3"];

/**
 * @param {string} kind "png", "html" or "csv"
 * @param {PlotlyElement} plot
 * @param {RunPayload} run
 */
export async function exportMap(kind, plot, run) {
  const name = `calm-${run.run_id}`;
  if (kind === "csv") download(`${name}.csv`, "text/csv", stepTable(run));
  else if (kind === "html") download(`${name}.html`, "text/html", await standalonePage(plot));
  else await (await loadPlotly()).downloadImage(plot, { format: "png", width: 1400, height: 900, filename: name });
}

/**
 * A line for each step: its text, its positions on the map and its vector.
 * @param {RunPayload} run
 */
function stepTable({ steps, vectors = [] }) {
  const vectorColumns = (vectors[0] ?? []).map((_, i) => `v${i + 1}`);
  const rows = steps.map((step, i) => {
    const { plane, space, principal } = step.predicted ?? { plane: [], space: [], principal: [] };
    const positions = [...plane, ...space, ...principal];
    const padding = Array(POSITION_COLUMNS.length - positions.length).fill("");
    const values = [step.index + 1, step.text, step.distance ?? "", step.frequency ?? ""];
    return [...values, ...positions, ...padding, ...(vectors[i] ?? [])];
  });
  return csv([...COLUMNS, ...POSITION_COLUMNS, ...vectorColumns], rows);
}

/**
 * A page that contains the figure and Plotly, so that it works without this server.
 * @param {PlotlyElement} plot
 */
async function standalonePage({ data, layout }) {
  const plotly = await (await fetch(config().plotly_url)).text();
  const background = getComputedStyle(document.body).backgroundColor;
  const shape = { ...layout, width: undefined, height: undefined, paper_bgcolor: background };
  const figure = JSON.stringify({ data, layout: shape }).replace(/</g, "\\u003c");
  return `<!doctype html><meta charset="utf-8"><title>CALM: a path of vectors</title>
<div id="map" style="height:95vh"></div>
<script>${plotly.replace(/<\/script/g, "<\\/script")}</script>
<script>const figure = ${figure};
const options = { responsive: true, scrollZoom: true, displaylogo: false, showSendToCloud: false };
Plotly.newPlot("map", figure.data, figure.layout, options);</script>`;
}
