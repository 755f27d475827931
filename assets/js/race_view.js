// Two texts as they grow, with the figures of each, and tokens over time.
import { appendPieces } from "./chunk_text.js";
import { factList, find, node } from "./dom.js";
import { createFigure } from "./figures.js";
import { createStepCounter } from "./step_counter.js";

/** @param {Component<RacePayload>} component */
export function mountRaceView({ element, props, watch }) {
  const lanes = find(element, ".calm-race");
  const counter = createStepCounter(find(element, ".calm-counter"));
  /** @type {number | null} */
  let raceId = null;
  /** @type {{ facts: HTMLElement, text: HTMLElement }[]} */
  let laneParts = [];

  const figure = createFigure(element, find(element, ".calm-plot"), (colours) =>
    props.value?.racers ? raceFigure(props.value, colours) : null,
  );
  const render = () => {
    const race = props.value;
    if (!race?.racers) return;
    if (raceId !== race.race_id) {
      raceId = race.race_id;
      lanes.replaceChildren();
      laneParts = race.racers.map((racer) => addLane(lanes, racer, race.prompt));
    }
    race.racers.forEach((racer, i) => {
      laneParts[i].facts.replaceChildren(...factList(raceFacts(racer)));
      appendPieces(laneParts[i].text, racer.texts);
    });
    const calm = race.racers.find((racer) => racer.is_calm);
    if (calm) counter.render(calm.texts.length, calm.texts.length * calm.chunk_size);
    figure.render();
  };
  watch("value", render);
  render();
}

/**
 * @param {HTMLElement} lanes
 * @param {RacerPayload} racer
 * @param {string} prompt
 */
function addLane(lanes, racer, prompt) {
  const size = racer.chunk_size === 1 ? "1 token" : `${racer.chunk_size} tokens`;
  const step = racer.is_calm ? `one vector (${size}) per step` : "one token per step";
  const facts = node("dl", { class: "calm-facts" });
  const text = node("p", { class: "calm-text", "aria-label": `text of ${racer.model}` });
  text.append(node("span", { class: "calm-prompt" }, prompt));
  lanes.append(node("section", { class: "calm-lane" }, node("h2", {}, `${racer.model}: ${step}`), facts, text));
  return { facts, text };
}

/** @param {RacerPayload} racer */
function raceFacts(racer) {
  const steps = racer.seconds.length;
  const tokens = steps * racer.chunk_size;
  const seconds = racer.seconds.at(-1);
  const first = racer.first_text_seconds;
  /** @type {Record<string, string>} */
  const facts = {
    backbone: `${racer.backbone_layers} layers of width ${racer.backbone_width}`,
    steps: String(steps),
    tokens: String(tokens),
    "tokens/s": seconds ? (tokens / seconds).toFixed(0) : "–",
    "time to first token": first === null ? "–" : `${(1000 * first).toFixed(0)} ms`,
    "FLOPs per token": `${(racer.flops_per_token / 1e6).toFixed(1)} M`,
  };
  if (racer.is_calm) facts["samples per step"] = racer.draws_per_step.toFixed(1);
  return facts;
}

/**
 * @param {RacePayload} race
 * @param {Palette} colours
 * @returns {Figure}
 */
function raceFigure({ racers, race_id }, colours) {
  const lines = [
    { color: colours.accent, width: 2.5 },
    { color: colours.second, width: 2.5, dash: "dot" },
  ];
  const axis = { gridcolor: colours.grid, zeroline: false, rangemode: "tozero" };
  return {
    traces: racers.map((racer, i) => ({
      type: "scatter",
      mode: "lines",
      name: racer.model,
      line: lines[i],
      x: [0, ...racer.seconds],
      y: [0, ...racer.seconds.map((_, step) => (step + 1) * racer.chunk_size)],
      hovertemplate: "%{y} tokens after %{x:.2f} s<extra>%{fullData.name}</extra>",
    })),
    layout: {
      margin: { l: 48, r: 8, t: 8, b: 40 },
      showlegend: true,
      uirevision: race_id,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      xaxis: { ...axis, title: { text: "model time (s)" } },
      yaxis: { ...axis, title: { text: "tokens" } },
    },
  };
}
