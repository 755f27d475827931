// Plotly figures that stay in place while their data changes.
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

  // Keeps a figure fit for where it stands: drawn when first shown, resized later, repainted in another theme; rearrange
  // is called before it is resized, for a figure whose parts lie otherwise where there is less room.
  C.keepFigure = (element, target, draw, rearrange = () => {}) => {
    C.onTheme(element, draw);
    C.whenShown(target, () => {
      if (!target.data) return draw();
      rearrange();
      Plotly.Plots.resize(target);
    });
  };
})();
