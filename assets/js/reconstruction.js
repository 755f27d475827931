// Chunks above their reconstructions, and the posterior of the selected chunk.
import { find, node, visible } from "./dom.js";
import { createFigure } from "./figures.js";
import { createWalk } from "./walk.js";

/** @param {Component<ReconstructionPayload, ReconstructionServer>} component */
export function mountReconstructionView({ element, props, watch, server }) {
  const pairs = find(element, ".calm-pairs");
  const title = find(element, "h2");
  const walk = createWalk(find(element, ".calm-walk"), server);
  let selected = 0;

  const posterior = createFigure(element, find(element, ".calm-plot"), (colours) => {
    const chunk = props.value?.chunks?.[selected];
    return chunk ? posteriorFigure(chunk, colours) : null;
  });

  /** @param {number} index */
  const select = (index) => {
    const chunks = props.value?.chunks ?? [];
    const chunk = chunks[index];
    if (!props.value || !chunk) return;
    selected = index;
    [...pairs.children].forEach((pair, i) => {
      pair.classList.toggle("selected", i === index);
      pair.setAttribute("aria-pressed", String(i === index));
    });
    title.textContent = `Posterior of chunk ${index + 1}, “${visible(chunk.text)}”: mean and standard deviation of each latent dimension`;
    posterior.render();
    walk.start(props.value.model, chunks, index);
  };

  const render = () => {
    const chunks = props.value?.chunks;
    if (!chunks) return;
    pairs.replaceChildren(...chunks.map((chunk, i) => chunkPair(chunk, i, () => select(i))));
    select(Math.min(selected, chunks.length - 1));
  };

  watch("value", render);
  render();
}

/**
 * @param {ChunkPayload} chunk
 * @param {number} index
 * @param {() => void} onclick
 */
function chunkPair(chunk, index, onclick) {
  const after = chunk.tokens.map(({ decoded_text, exact }) =>
    node("span", exact ? {} : { class: "calm-wrong" }, visible(decoded_text)),
  );
  const outcome = chunk.exact ? "restored exactly" : `restored as ${visible(chunk.decoded_text)}`;
  return node(
    "button",
    {
      class: "calm-pair",
      type: "button",
      "aria-pressed": "false",
      "aria-label": `chunk ${index + 1}: ${visible(chunk.text)}, ${outcome}`,
      onclick,
    },
    node("span", { class: "before" }, visible(chunk.text)),
    node("span", { class: "after" }, ...after),
  );
}

/**
 * @param {ChunkPayload} chunk
 * @param {Palette} colours
 * @returns {Figure}
 */
function posteriorFigure({ mean, std }, colours) {
  const bars = {
    type: "bar",
    x: mean.map((_, i) => i + 1),
    y: mean,
    customdata: std,
    marker: { color: colours.accent },
    error_y: { type: "data", array: std, color: colours.second, thickness: 1.4, width: 2 },
    hovertemplate: "dimension %{x}: mean %{y:.3f}, std %{customdata:.3f}<extra></extra>",
  };
  const layout = {
    margin: { l: 44, r: 8, t: 8, b: 38 },
    bargap: 0.25,
    showlegend: false,
    uirevision: "keep",
    xaxis: { title: { text: "latent dimension" }, gridcolor: "rgba(0,0,0,0)", zeroline: false },
    yaxis: { title: { text: "mean ± std" }, gridcolor: colours.grid, zerolinecolor: colours.quiet },
  };
  return { traces: [bars], layout };
}
