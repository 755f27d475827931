// Plotly figures that stay in place while their data changes: the vector map and the posterior of a chunk.
window.CALM = window.CALM || {};
(() => {
  const C = window.CALM;
  const config = { displaylogo: false, responsive: true, displayModeBar: "hover", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

  const layout = (colours, extra) => ({
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colours.ink, size: 12, family: "system-ui, sans-serif" },
    margin: { l: 8, r: 8, t: 8, b: 8 },
    hoverlabel: { font: { family: "system-ui, sans-serif", size: 13 } },
    ...extra,
  });

  // Draws a figure, or changes it in place.
  C.react = (target, traces, extra, options = {}) =>
    Plotly.react(target, traces, layout(C.colours(), extra), { ...config, ...options });

  // Repaints a figure when the page changes between light and dark.
  C.onTheme = (element, callback) => {
    const observer = new MutationObserver(() => (element.isConnected ? callback() : observer.disconnect()));
    observer.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  };

  // A hidden tab has no width; a figure is drawn when it first shows and resized when that changes.
  C.whenShown = (target, callback) => {
    new ResizeObserver(() => {
      if (target.clientWidth > 0) callback();
    }).observe(target);
  };

  C.mountMap = (element, props, watch) => {
    const target = element.querySelector(".calm-plot");
    const strip = element.querySelector(".calm-text");
    const buttons = [...element.querySelectorAll("button[data-dimensions]")];
    let dimensions = 2;
    let drawn = false;
    let base = null;

    const traces = (colours) => {
      const value = props.value || { steps: [], prompt_chunks: [], run: null };
      const flat = dimensions === 2;
      const type = flat ? "scattergl" : "scatter3d";
      const places = (key, list) => {
        const rows = list.map((entry) => entry[key]);
        const at = { x: rows.map((p) => p[0]), y: rows.map((p) => p[1]) };
        if (!flat) at.z = rows.map((p) => p[2]);
        return at;
      };
      const key = flat ? "plane" : "space";
      const all = base[key];
      const cloud = { x: all.map((p) => p[0]), y: all.map((p) => p[1]) };
      if (!flat) cloud.z = all.map((p) => p[2]);
      const label = (text) => C.visible(text).replace(/</g, "&lt;");
      const path = value.steps.filter((step) => step[key]);
      const prompt = (value.prompt_chunks || []).filter((chunk) => chunk[key]);
      const index = C.selected.run === value.run ? C.selected.index : null;
      const chosen = path.filter((step) => step.index === index);
      return [
        { type, mode: "markers", name: "training chunks", ...cloud, text: base.texts.map(label),
          hovertemplate: "“%{text}”<extra>training chunk</extra>", marker: { size: flat ? 4 : 2, color: colours.cloud } },
        { type, mode: "lines+markers", name: "prompt, encoded", ...places(key, prompt), text: prompt.map((c) => label(c.text)),
          hovertemplate: "“%{text}”<extra>prompt</extra>", line: { color: colours.second, width: flat ? 1.5 : 3, dash: "dot" },
          marker: { size: flat ? 8 : 5, symbol: "square", color: colours.second } },
        { type, mode: "lines+markers", name: "predicted path", ...places(key, path),
          text: path.map((s) => `${s.index + 1}: “${label(s.text)}”`), customdata: path.map((s) => s.index),
          hovertemplate: "step %{text}<extra></extra>", line: { color: colours.accent, width: flat ? 1.5 : 3 },
          marker: { size: flat ? 7 : 4, color: colours.accent } },
        { type, mode: "markers+text", name: "selected step", ...places(key, chosen), text: chosen.map((s) => label(s.text)),
          textposition: "top center", hoverinfo: "skip", textfont: { size: 14, color: colours.ink },
          marker: { size: flat ? 15 : 9, symbol: "diamond", color: colours.accent, line: { width: 2, color: colours.ink } } },
      ];
    };

    const draw = () => {
      if (!target.clientWidth || !base) return;
      const colours = C.colours();
      const axis = { showgrid: true, gridcolor: colours.grid, zeroline: false, showticklabels: false, title: "" };
      // Plotly writes into what it is given: each axis needs an object of its own.
      const scene = { xaxis: { ...axis }, yaxis: { ...axis }, zaxis: { ...axis }, uirevision: "keep", aspectmode: "cube" };
      const figure = {
        showlegend: true,
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
        margin: { l: 8, r: 8, t: 34, b: 8 },
        uirevision: `keep-${dimensions}`,
        xaxis: { ...axis }, yaxis: { ...axis }, scene, hovermode: "closest", dragmode: dimensions === 2 ? "pan" : "orbit",
      };
      C.react(target, traces(colours), figure, { scrollZoom: true });
      if (!drawn) {
        drawn = true;
        const pick = (event) => {
          const point = event.points[0];
          if (point.data.name === "predicted path") C.select(props.value.run, point.customdata);
        };
        target.on("plotly_hover", pick);
        target.on("plotly_click", pick);
      }
      if (props.value) {
        C.drawText(strip, props.value);
        C.markText(strip, props.value, C.selected);
      }
    };

    buttons.forEach((button) =>
      button.addEventListener("click", () => {
        dimensions = Number(button.dataset.dimensions);
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        if (drawn) Plotly.purge(target);
        drawn = false;
        draw();
      }),
    );
    watch("value", draw);
    C.onSelect(element, draw);
    C.onShow(element, (value) => {
      props.value = value;
      draw();
    });
    C.onTheme(element, draw);
    C.whenShown(target, () => (drawn ? Plotly.Plots.resize(target) : draw()));
    fetch(target.dataset.base)
      .then((response) => response.json())
      .then((found) => {
        base = found;
        draw();
      });
  };

  C.mountReconstruction = (element, props, watch) => {
    const pairs = element.querySelector(".calm-pairs");
    const target = element.querySelector(".calm-plot");
    const title = element.querySelector("h3");
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
    C.onTheme(element, drawPosterior);
    C.whenShown(target, () => (target.data ? Plotly.Plots.resize(target) : drawPosterior()));
    draw();
  };
})();
