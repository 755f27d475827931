// The map of chunk vectors: the predicted path of a run, what the autoencoder would have said, clouds, other runs.
window.CALM = window.CALM || {};
(() => {
  const C = window.CALM;
  const TEMPO = 350; // milliseconds a step while the path is played
  const OTHERS = 3;
  const DASHES = ["dash", "dot", "dashdot"];
  const SYMBOLS = ["triangle-up", "cross", "x"];
  let fit = null; // a map of the visitor's own runs

  // The vectors of the runs of this visit, for a map of their own.
  C.ownVectors = (wanted) =>
    [...C.runs.values()]
      .filter(({ model, vectors = [] }) => model === wanted && vectors.length)
      .map(({ run, vectors }) => ({ run, vectors }));

  C.mountFit = (element, props, watch) =>
    watch("value", () => {
      if (!props.value) return;
      fit = props.value;
      window.dispatchEvent(new CustomEvent("calm-fit", { detail: fit }));
    });

  C.mountMap = (element, props, watch, server) => {
    const part = (name) => element.querySelector(`[data-${name}]`);
    const target = element.querySelector(".calm-plot");
    const strip = element.querySelector(".calm-text");
    const buttons = [...element.querySelectorAll("button[data-dimensions]")];
    const [layout, colouring, encoded, others, cloudButton, play, walk, told] =
      ["layout", "colour", "encoded", "others", "cloud", "play", "step", "told"].map(part);
    const clouds = new Map(); // run:index -> vectors that were drawn there
    let dimensions = 2;
    let drawn = false;
    const maps = JSON.parse(target.dataset.maps);
    const bases = {}; // model -> its map, once it is here
    let timer = null;
    if (C.shown) props.value = C.shown; // Gradio knows only the last run that was written

    const run = () => props.value || { steps: [], prompt_chunks: [], run: null };
    const selected = () => (C.selected.run === run().run ? C.selected.index : null);
    const label = (text) => C.visible(text).replace(/</g, "&lt;");
    // Where an entry lies in the chosen layout; in a map of one's own only what was fitted has a place.
    const placeOf = (entry, id, index) => {
      if (layout.value === "own") return index == null ? null : (fit.runs[id] || [])[index];
      return layout.value === "principal" ? entry.principal : entry[dimensions === 2 ? "plane" : "space"];
    };
    const columns = (places) => {
      const at = { x: places.map((p) => p[0]), y: places.map((p) => p[1]) };
      return dimensions === 2 ? at : { ...at, z: places.map((p) => p[2]) };
    };
    const trace = (name, entries, more) => {
      const flat = dimensions === 2;
      return { type: flat ? "scattergl" : "scatter3d", name, ...columns(entries.map(([place]) => place)), ...more };
    };
    // Steps with their places: [place, step].
    const along = (value, of = (step) => step) =>
      value.steps.map((step, i) => [of(step) && placeOf(of(step), value.run, of(step) === step ? i : null), step]).filter(([place]) => place);

    const shade = (steps) => {
      const rule = { time: (step) => step.index, distance: (step) => step.distance, frequency: (step) => Math.log10(1 + step.frequency) };
      const of = rule[colouring.value];
      return of && {
        color: steps.map(of), colorscale: "Viridis", showscale: true,
        colorbar: { title: { text: { time: "step", distance: "distance", frequency: "log10 of 1 + count" }[colouring.value] }, thickness: 12, len: 0.6 },
      };
    };

    const traces = (colours) => {
      const value = run();
      const flat = dimensions === 2;
      const index = selected();
      const base = bases[value.model];
      const whole = layout.value === "own" ? { places: fit.places, texts: fit.texts }
        : { places: base[layout.value === "principal" ? "principal" : flat ? "plane" : "space"], texts: base.texts };
      const found = [
        trace("training chunks", whole.places.map((place) => [place]), { mode: "markers", text: whole.texts.map(label),
          hovertemplate: "“%{text}”<extra>training chunk</extra>", marker: { size: flat ? 4 : 2, color: colours.cloud } }),
      ];
      const prompt = (value.prompt_chunks || []).map((chunk) => [placeOf(chunk, value.run, null), chunk]).filter(([place]) => place);
      found.push(trace("prompt, encoded", prompt, { mode: "lines+markers", text: prompt.map(([, c]) => label(c.text)),
        hovertemplate: "“%{text}”<extra>prompt</extra>", line: { color: colours.second, width: flat ? 1.5 : 3, dash: "dot" },
        marker: { size: flat ? 8 : 5, symbol: "square", color: colours.second } }));
      if (others.checked)
        [...C.runs.values()].filter((other) => other.run !== value.run && other.model === value.model).slice(-OTHERS).forEach((other, i) => {
          const path = along(other);
          found.push(trace(`earlier run, seed ${other.options ? other.options.seed : "?"}`, path, { mode: "lines+markers", text: path.map(([, s]) => label(s.text)),
            hovertemplate: "“%{text}”<extra>%{fullData.name}</extra>", line: { color: colours.others[i], width: flat ? 1.2 : 2, dash: DASHES[i] },
            marker: { size: flat ? 6 : 3, symbol: flat ? SYMBOLS[i] : "circle", color: colours.others[i] } }));
        });
      if (encoded.checked) {
        const path = along(value, (step) => step.encoded);
        found.push(trace("encoded path", path, { mode: "lines+markers", text: path.map(([, s]) => `${s.index + 1}: “${label(s.text)}”, ${s.distance.toFixed(2)} from the predicted vector`),
          hovertemplate: "%{text}<extra>encoded</extra>", line: { color: colours.second, width: flat ? 1.5 : 3, dash: "dash" },
          marker: { size: flat ? 7 : 4, symbol: flat ? "diamond-open" : "diamond", color: colours.second } }));
      }
      const cloud = clouds.get(`${value.run}:${index}`);
      if (cloud && layout.value !== "own")
        found.push(trace("200 draws of this step", cloud.points.map((point) => [placeOf(point)]), { mode: "markers", text: cloud.texts.map(label),
          hovertemplate: "“%{text}”<extra>a draw</extra>", marker: { size: flat ? 6 : 3, symbol: flat ? "circle-open" : "circle", color: colours.accent, opacity: 0.6 } }));
      const path = along(value);
      const steps = path.map(([, step]) => step);
      found.push(trace("predicted path", path, { mode: "lines+markers",
        text: steps.map((s) => `${s.index + 1}: “${label(s.text)}”${s.distance == null ? "" : `, ${s.distance.toFixed(2)} from the encoded vector`}`),
        customdata: steps.map((s) => s.index), hovertemplate: "step %{text}<extra></extra>",
        line: { color: colours.accent, width: flat ? 1.5 : 3 }, marker: { size: flat ? 7 : 4, color: colours.accent, ...shade(steps) } }));
      const chosen = path.filter(([, step]) => step.index === index);
      found.push(trace("selected step", chosen, { mode: "markers+text", text: chosen.map(([, s]) => label(s.text)),
        textposition: "top center", hoverinfo: "skip", textfont: { size: 14, color: colours.ink },
        marker: { size: flat ? 15 : 9, symbol: "diamond", color: colours.accent, line: { width: 2, color: colours.ink } } }));
      return found;
    };

    const figure = (colours) => {
      const axis = { showgrid: true, gridcolor: colours.grid, zeroline: false, showticklabels: false, title: "" };
      // Plotly writes into what it is given: each axis needs an object of its own.
      const scene = { xaxis: { ...axis }, yaxis: { ...axis }, zaxis: { ...axis }, uirevision: `keep-${run().model}-${layout.value}`, aspectmode: "cube" };
      return {
        showlegend: true,
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
        margin: { l: 8, r: 8, t: 34, b: 8 },
        uirevision: `keep-${run().model}-${dimensions}-${layout.value}`,
        xaxis: { ...axis }, yaxis: { ...axis }, scene, hovermode: "closest", dragmode: dimensions === 2 ? "pan" : "orbit",
      };
    };

    const tell = () => {
      const { steps } = run();
      const index = selected() ?? steps.length - 1;
      const step = steps[index];
      walk.max = Math.max(1, steps.length);
      walk.value = index + 1;
      walk.disabled = play.disabled = cloudButton.disabled = !steps.length;
      const distance = step && step.distance != null ? `, ${step.distance.toFixed(2)} from the encoded vector` : "";
      told.textContent = step ? `step ${index + 1} of ${steps.length}${distance}` : "";
      if (!maps[run().model]) told.textContent = `There is no map of ${run().model}, so the last path of another model stays.`;
    };

    const fetchBase = async (model) => {
      bases[model] = null; // on its way
      bases[model] = await (await fetch(maps[model])).json();
      draw();
    };

    const draw = () => {
      const { model } = run();
      if (maps[model] && !(model in bases)) fetchBase(model);
      tell();
      if (!target.clientWidth || !bases[model]) return;
      const colours = C.colours();
      C.react(target, traces(colours), figure(colours), { scrollZoom: true });
      if (!drawn) {
        drawn = true;
        const pick = (event) => {
          const point = event.points[0];
          if (point.data.name === "predicted path") C.select(run().run, point.customdata);
        };
        target.on("plotly_hover", pick);
        target.on("plotly_click", pick);
      }
      if (props.value) {
        C.drawText(strip, props.value);
        C.markText(strip, props.value, C.selected);
        reveal();
      }
    };

    // Scrolls the strip, not the page, as far as the selected chunk needs.
    const reveal = () => {
      const chosen = strip.querySelector(".selected");
      if (!chosen) return;
      const [box, chunk] = [strip.parentElement, chosen].map((node) => node.getBoundingClientRect());
      strip.parentElement.scrollTop += Math.min(0, chunk.top - box.top) + Math.max(0, chunk.bottom - box.bottom);
    };

    const turnTo = (wanted) => {
      dimensions = wanted;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(Number(other.dataset.dimensions) === wanted)));
      if (drawn) Plotly.purge(target);
      drawn = false;
      draw();
    };

    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶ Play";
    };
    play.addEventListener("click", () => {
      if (timer) return stop();
      const { run: id, steps } = run();
      let index = selected() == null || selected() >= steps.length - 1 ? -1 : selected();
      play.textContent = "❚❚ Pause";
      timer = setInterval(() => {
        index += 1;
        if (run().run !== id || index >= run().steps.length || !element.isConnected) return stop();
        C.select(id, index);
      }, TEMPO);
    });
    walk.addEventListener("input", () => C.select(run().run, Number(walk.value) - 1));

    cloudButton.addEventListener("click", async () => {
      const value = run();
      const index = selected() ?? value.steps.length - 1;
      cloudButton.disabled = true;
      const found = await server.open_cloud({ model: value.model, prompt: value.prompt, chunks: value.steps.slice(0, index).map((step) => step.ids) });
      cloudButton.disabled = false;
      if (found.error) {
        told.textContent = found.error;
        return;
      }
      clouds.set(`${value.run}:${index}`, found);
      C.select(value.run, index);
    });

    const table = () => {
      const { steps, vectors = [] } = run();
      const quoted = (text) => `"${String(text).replace(/"/g, '""')}"`;
      const head = ["step", "text", "distance", "frequency", "umap_x", "umap_y", "umap3_x", "umap3_y", "umap3_z", "pca_1", "pca_2", "pca_3"];
      const width = vectors.length ? vectors[0].length : 0;
      const rows = steps.map((s, i) => [s.index + 1, quoted(s.text), s.distance, s.frequency, ...(s.plane || ["", ""]), ...(s.space || ["", "", ""]), ...(s.principal || ["", "", ""]), ...(vectors[i] || [])]);
      return [[...head, ...Array.from({ length: width }, (_, i) => `v${i + 1}`)], ...rows].map((row) => row.join(",")).join("\n");
    };
    const exports = {
      png: () => Plotly.downloadImage(target, { format: "png", width: 1400, height: 900, filename: `calm-${run().run}` }),
      csv: () => C.download(`calm-${run().run}.csv`, "text/csv", table()),
      html: async () => {
        const source = [...document.scripts].find((script) => script.src.includes("plotly.min.js")).src;
        const plotly = (await (await fetch(source)).text()).replace(/<\/script/g, "<\\/script");
        const { data, layout: shape } = target;
        const figured = JSON.stringify({ data, layout: { ...shape, width: undefined, height: undefined, paper_bgcolor: getComputedStyle(document.body).backgroundColor } }).replace(/</g, "\\u003c");
        C.download(`calm-${run().run}.html`, "text/html",
          `<!doctype html><meta charset="utf-8"><title>CALM: a path of vectors</title><div id="map" style="height:95vh"></div><script>${plotly}</script><script>const f = ${figured}; Plotly.newPlot("map", f.data, f.layout, { responsive: true, scrollZoom: true });</script>`);
      },
    };
    element.querySelectorAll("[data-export]").forEach((button) => button.addEventListener("click", () => drawn && exports[button.dataset.export]()));

    buttons.forEach((button) => button.addEventListener("click", () => {
      if (layout.value === "own" && fit.dimensions !== Number(button.dataset.dimensions)) layout.value = "umap";
      turnTo(Number(button.dataset.dimensions));
    }));
    layout.addEventListener("change", () => (layout.value === "own" ? turnTo(fit.dimensions) : draw()));
    [colouring, encoded, others].forEach((control) => control.addEventListener("change", draw));
    C.onFit(element, (found) => {
      layout.querySelector("[value=own]").disabled = false;
      layout.value = "own";
      turnTo(found.dimensions);
    });
    watch("value", draw);
    C.onSelect(element, draw);
    C.onShow(element, (value) => {
      props.value = value;
      draw();
    });
    C.onTheme(element, draw);
    C.whenShown(target, () => (drawn ? Plotly.Plots.resize(target) : draw()));
    draw();
  };
})();
