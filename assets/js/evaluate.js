// BrierLM of the bundled models against what a token costs them: to write it, and beside that (on a phone below) to train on it.
window.CALM = window.CALM || {};
CALM.mountScores = (element, props, watch) => {
  const C = window.CALM;
  const target = element.querySelector(".calm-plot");
  const draw = () => {
    const { models, language } = props.value || {};
    if (!models || !models.length || !target.clientWidth) return;
    const colours = C.colours();
    const stacked = target.clientWidth < 640;
    const logs = (cost) => models.map((model) => Math.log10(model[cost] / 1e6));
    // A logarithmic axis, which sets 7 and 12 million as far apart as 70 and 120; on the right there is room for a name.
    const range = (cost) => {
      const [low, high] = [Math.min(...logs(cost)), Math.max(...logs(cost))];
      const span = Math.max(0.5, high - low);
      return [low - 0.08 * span, high + (stacked ? 0.45 : 0.3) * span];
    };
    // A name, of which a phone says only the end, stands to the right of its point, unless a bar would cross it there.
    const names = models.map((model) => (stacked ? model.name.split("-").pop() : model.name));
    const sides = (cost) => {
      const [low, high] = range(cost);
      const pixel = (high - low) / (target.clientWidth * (stacked ? 0.9 : 0.42));
      const room = names.map((name) => (7 * name.length + 14) * pixel);
      const at = logs(cost);
      const crosses = (other, i) => other.low < models[i].score + 0.3 && other.high > models[i].score - 0.3;
      return at.map((here, i) => {
        const crossed = models.some((other, j) => here < at[j] && at[j] < here + room[i] && crosses(other, i));
        return crossed ? "middle left" : "middle right";
      });
    };
    const series = (name, cost, axis, look) => ({
      type: "scatter", mode: "markers+text", name, marker: { size: 11, ...look }, xaxis: `x${axis}`, yaxis: `y${axis}`,
      x: models.map((model) => model[cost] / 1e6), y: models.map((model) => model.score),
      error_y: { type: "data", symmetric: false, thickness: 1.2, width: 4, color: look.color,
        array: models.map((model) => model.high - model.score), arrayminus: models.map((model) => model.score - model.low) },
      text: names.map((name) => ` ${name} `), textposition: sides(cost), customdata: models.map((model) => model.name),
      hovertemplate: "%{customdata}: BrierLM %{y:.1f} at %{x:.1f} million operations a token<extra>%{fullData.name}</extra>",
    });
    const across = (title, cost) => ({
      title: { text: title }, type: "log", range: range(cost), gridcolor: colours.grid, zeroline: false,
      tickvals: [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000],
    });
    const up = { title: { text: "BrierLM" }, gridcolor: colours.grid, zeroline: false };
    const itself = ["", "2"].map((axis) => ({
      type: "line", xref: `x${axis} domain`, x0: 0, x1: 1, yref: `y${axis}`, y0: language, y1: language, layer: "below",
      line: { color: colours.quiet, width: 1.2, dash: "dot" },
      label: { text: `the language${stacked ? "" : " itself"}, ${language.toFixed(1)}`, textposition: "start", yanchor: "bottom", font: { size: 11 } },
    }));
    C.react(
      target,
      [series("generating, T = 1", "generating", "", { color: colours.accent, symbol: "circle" }),
       series("training", "training", "2", { color: colours.second, symbol: "diamond-open" })],
      {
        margin: { l: 48, r: 8, t: 8, b: 44 }, showlegend: false, uirevision: "keep", shapes: itself,
        grid: { pattern: "independent", rows: stacked ? 2 : 1, columns: stacked ? 1 : 2, xgap: 0.15, ygap: 0.28 },
        xaxis: across("million operations to write a token", "generating"),
        xaxis2: across("million operations to train on a token", "training"),
        yaxis: up, yaxis2: { ...up, matches: "y" },
      },
    );
  };
  watch("value", draw);
  C.keepFigure(element, target, draw, draw); // the two figures stand side by side or one below the other
  draw();
};
