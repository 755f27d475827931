// What the autoencoder makes of a text: chunks above their reconstructions, posteriors, walks through latent space.
window.CALM = window.CALM || {};
(() => {
  const C = window.CALM;
  const DIRECTIONS = 8;

  // Moves a chunk's latent and shows what it decodes to. The whole walk is decoded at once, so the slider is immediate.
  const mountWalk = (target, server) => {
    const way = C.node("select", { class: "calm-select", "aria-label": "where to move the vector" });
    const range = C.node("input", { type: "range", class: "calm-range", "aria-label": "how far to move the vector", disabled: true });
    const told = C.node("p", { class: "calm-note", role: "status" });
    const decoded = C.node("p", { class: "calm-walked" });
    const near = C.node("ol", { class: "calm-near" });
    target.append(
      C.node("h2", {}, "Move the vector"),
      C.node("div", { class: "calm-row" }, way, range), told, decoded,
      C.node("h3", {}, "Nearest training chunks, with their distances"), near,
    );
    let chunk = null;
    let found = null;
    let asked = 0;

    const draw = () => {
      const place = found.places[Number(range.value)];
      const at = found.at[Number(range.value)];
      told.textContent = way.value.startsWith("to ")
        ? `${Math.round(100 * at)} % of the way`
        : `${at > 0 ? "+" : ""}${at.toFixed(1)} standard deviations of the training chunks`;
      decoded.replaceChildren("decodes to ");
      place.tokens.forEach((token, i) =>
        decoded.append(C.node("span", { class: `calm-token${place.ids[i] === chunk.ids[i] ? "" : " calm-wrong"}` }, C.visible(token))));
      near.replaceChildren(...place.near.map(([text, distance]) =>
        C.node("li", {}, C.node("span", {}, `“${C.visible(text)}”`), C.node("span", { class: "figure" }, distance.toFixed(2)))));
    };

    const ask = async () => {
      const turn = ++asked;
      const [kind, number] = way.value.split(" ");
      const other = kind === "to" ? way.chunks[Number(number)].mean : null;
      const answer = await server.explore({ model: way.model, mean: chunk.mean, direction: Number(number), other });
      if (turn !== asked) return; // another chunk was chosen meanwhile
      if (answer.error) {
        told.textContent = answer.error;
        return;
      }
      found = answer;
      range.disabled = false;
      range.min = 0;
      range.max = found.at.length - 1;
      range.value = found.at.findIndex((at) => Math.abs(at) < 1e-6);
      draw();
    };

    way.addEventListener("change", ask);
    range.addEventListener("input", draw);
    return {
      begin: (model, chunks, index) => {
        way.model = model;
        chunk = chunks[index];
        const before = way.value;
        way.chunks = chunks;
        way.replaceChildren(
          C.node("optgroup", { label: "along a principal direction" },
            ...Array.from({ length: DIRECTIONS }, (_, i) => C.node("option", { value: `along ${i}` }, `along direction ${i + 1}`))),
          C.node("optgroup", { label: "towards another chunk" },
            ...chunks.map((other, i) => (i === index ? null : C.node("option", { value: `to ${i}` }, `to chunk ${i + 1}, “${C.visible(other.text)}”`)))),
        );
        if ([...way.options].some((option) => option.value === before)) way.value = before;
        if (target.offsetParent) ask(); // not before somebody looks
        else C.whenShown(target, () => asked || ask());
      },
    };
  };

  C.mountReconstruction = (element, props, watch, server) => {
    const pairs = element.querySelector(".calm-pairs");
    const target = element.querySelector(".calm-plot");
    const title = element.querySelector("h2");
    const walk = mountWalk(element.querySelector(".calm-walk"), server);
    let selected = 0;

    const drawPosterior = () => {
      const chunk = props.value && props.value.chunks && props.value.chunks[selected];
      if (!chunk || !target.clientWidth) return;
      const colours = C.colours();
      title.textContent = `Posterior of chunk ${selected + 1}, “${C.visible(chunk.text)}”: mean and standard deviation of each latent dimension`;
      const dimension = chunk.mean.map((_, i) => i + 1);
      C.react(
        target,
        [{ type: "bar", x: dimension, y: chunk.mean, marker: { color: colours.accent },
           error_y: { type: "data", array: chunk.std, color: colours.second, thickness: 1.4, width: 2 },
           hovertemplate: "dimension %{x}: mean %{y:.3f}, std %{customdata:.3f}<extra></extra>", customdata: chunk.std }],
        {
          margin: { l: 44, r: 8, t: 8, b: 38 }, bargap: 0.25, showlegend: false, uirevision: "keep",
          xaxis: { title: { text: "latent dimension" }, gridcolor: "rgba(0,0,0,0)", zeroline: false },
          yaxis: { title: { text: "mean ± std" }, gridcolor: colours.grid, zerolinecolor: colours.quiet },
        },
      );
    };

    const select = (index) => {
      selected = index;
      [...pairs.children].forEach((pair, i) => {
        pair.classList.toggle("selected", i === index);
        pair.setAttribute("aria-pressed", String(i === index));
      });
      drawPosterior();
      walk.begin(props.value.model, props.value.chunks, index);
    };

    const draw = () => {
      const value = props.value;
      if (!value || !value.chunks) return;
      const made = value.chunks.map((chunk, i) => {
        const after = C.node("span", { class: "after" });
        chunk.tokens.forEach(([, decoded, same]) =>
          after.append(C.node("span", same ? {} : { class: "calm-wrong" }, C.visible(decoded))),
        );
        return C.node(
          "button",
          { class: "calm-pair", type: "button", "aria-pressed": "false",
            "aria-label": `chunk ${i + 1}: ${C.visible(chunk.text)}, ${chunk.exact ? "restored exactly" : `restored as ${C.visible(chunk.decoded)}`}`,
            onclick: () => select(i) },
          C.node("span", { class: "before" }, C.visible(chunk.text)),
          after,
        );
      });
      pairs.replaceChildren(...made);
      select(Math.min(selected, value.chunks.length - 1));
    };

    watch("value", draw);
    C.keepFigure(element, target, drawPosterior);
    draw();
  };

  C.mountCurve = (element, props, watch) => {
    const target = element.querySelector(".calm-plot");
    const draw = () => {
      if (!props.value || !target.clientWidth) return;
      const colours = C.colours();
      const line = (name, points, look) => ({
        type: "scatter", mode: "lines+markers", name, line: look, marker: { color: look.color, size: 5 },
        x: points.map(([noise]) => noise), y: points.map(([, share]) => 100 * share),
        hovertemplate: "%{y:.1f} % at noise %{x:.1f}<extra>%{fullData.name}</extra>",
      });
      C.react(
        target,
        [line("held-out stories", props.value.reference, { color: colours.second, width: 2, dash: "dot" }),
         line("this text", props.value.text, { color: colours.accent, width: 2.5 })],
        {
          margin: { l: 48, r: 8, t: 8, b: 40 }, showlegend: true, uirevision: "keep",
          legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
          xaxis: { title: { text: "standard deviation of the noise" }, gridcolor: colours.grid, zeroline: false },
          yaxis: { title: { text: "tokens restored, %" }, gridcolor: colours.grid, zeroline: false, range: [0, 103] },
        },
      );
    };
    watch("value", draw);
    C.keepFigure(element, target, draw);
    draw();
  };
})();
