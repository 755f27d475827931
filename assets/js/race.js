// Two texts that grow beside each other, and tokens over time.
window.CALM = window.CALM || {};
CALM.mountRace = (element, props, watch) => {
  const C = window.CALM;
  const lanes = element.querySelector(".calm-race");
  const target = element.querySelector(".calm-plot");
  let race = null;

  const lane = (racer, prompt) => {
    const text = C.node("p", { class: "calm-text", "aria-label": `text of ${racer.name}` });
    text.append(C.node("span", { class: "calm-prompt" }, prompt));
    const facts = C.node("dl", { class: "calm-facts" });
    const tokens = racer.chunk_size === 1 ? "one token" : `${racer.chunk_size} tokens`;
    const step = racer.calm ? `one vector, ${tokens}, a step` : "one token a step";
    return C.node("section", { class: "calm-lane" }, C.node("h2", {}, `${racer.name}: ${step}`), facts, text);
  };

  const facts = (racer) => {
    const steps = racer.times.length;
    const seconds = steps ? racer.times[steps - 1] : 0;
    const [layers, width] = racer.backbone;
    const rows = {
      backbone: `${layers} layers of ${width}`,
      steps: String(steps),
      tokens: String(steps * racer.chunk_size),
      "tokens a second": seconds ? ((steps * racer.chunk_size) / seconds).toFixed(0) : "–",
      "first word": racer.first == null ? "–" : `${(1000 * racer.first).toFixed(0)} ms`,
      "operations a token": `${(racer.flops / 1e6).toFixed(1)} M`,
    };
    if (racer.calm) rows["vectors drawn a step"] = racer.draws.toFixed(1);
    return Object.entries(rows).map(([name, fact]) =>
      C.node("div", {}, C.node("dt", {}, name), C.node("dd", {}, fact)),
    );
  };

  const plot = () => {
    const racers = props.value && props.value.racers;
    if (!racers || !target.clientWidth) return;
    const colours = C.colours();
    const looks = [{ color: colours.accent, width: 2.5 }, { color: colours.second, width: 2.5, dash: "dot" }];
    C.react(
      target,
      racers.map((racer, i) => ({
        type: "scatter", mode: "lines", name: racer.name, line: looks[i],
        x: [0, ...racer.times], y: [0, ...racer.times.map((_, n) => (n + 1) * racer.chunk_size)],
        hovertemplate: "%{y} tokens after %{x:.2f} s<extra>%{fullData.name}</extra>",
      })),
      {
        margin: { l: 48, r: 8, t: 8, b: 40 }, showlegend: true, uirevision: props.value.race,
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
        xaxis: { title: { text: "seconds of its own" }, gridcolor: colours.grid, zeroline: false, rangemode: "tozero" },
        yaxis: { title: { text: "tokens" }, gridcolor: colours.grid, zeroline: false, rangemode: "tozero" },
      },
    );
  };

  const draw = () => {
    const value = props.value;
    if (!value || !value.racers) return;
    if (race !== value.race) {
      race = value.race;
      lanes.replaceChildren(...value.racers.map((racer) => lane(racer, value.prompt)));
    }
    value.racers.forEach((racer, i) => {
      const [, figures, text] = lanes.children[i].children;
      figures.replaceChildren(...facts(racer));
      for (let n = text.querySelectorAll(".calm-piece").length; n < racer.pieces.length; n++)
        text.append(C.node("span", { class: `calm-piece${n % 2 ? " odd" : ""}` }, racer.pieces[n]));
    });
    plot();
  };

  watch("value", draw);
  C.keepFigure(element, target, plot);
  draw();
};
