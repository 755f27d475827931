// BrierLM of the bundled models against what a token costs them.
window.CALM = window.CALM || {};
CALM.mountScores = (element, props, watch) => {
  const C = window.CALM;
  const target = element.querySelector(".calm-plot");
  const draw = () => {
    const models = props.value;
    if (!models || !models.length || !target.clientWidth) return;
    const colours = C.colours();
    const series = (name, cost, look) => ({
      type: "scatter", mode: "markers+text", name, marker: { size: 11, ...look },
      x: models.map((model) => model[cost] / 1e6), y: models.map((model) => model.score),
      error_y: { type: "data", symmetric: false, thickness: 1.2, width: 4, color: look.color,
        array: models.map((model) => model.high - model.score), arrayminus: models.map((model) => model.score - model.low) },
      text: models.map((model) => ` ${model.name}`), textposition: "middle right",
      hovertemplate: "%{text}: BrierLM %{y:.1f} at %{x:.1f} million operations a token<extra>%{fullData.name}</extra>",
    });
    C.react(
      target,
      [series("generating, T = 1", "generating", { color: colours.accent, symbol: "circle" }),
       series("training", "training", { color: colours.second, symbol: "diamond-open" })],
      {
        margin: { l: 48, r: 24, t: 8, b: 44 }, showlegend: true, uirevision: "keep",
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
        xaxis: { title: { text: "million floating-point operations a token" }, gridcolor: colours.grid, zeroline: false, rangemode: "tozero" },
        yaxis: { title: { text: "BrierLM" }, gridcolor: colours.grid, zeroline: false },
      },
    );
  };
  watch("value", draw);
  C.keepFigure(element, target, draw);
  draw();
};
