// The text of a run, chunk by chunk, and the pool behind the selected chunk.
window.CALM = window.CALM || {};
CALM.mountRun = (element, props, watch) => {
  const C = window.CALM;
  const text = element.querySelector(".calm-text");
  const detail = element.querySelector(".calm-detail");

  const drawDetail = (value, index) => {
    const step = value.steps[index];
    if (!step) {
      detail.replaceChildren(C.node("p", { class: "calm-note" }, "Point at a chunk to see what it was chosen from."));
      return;
    }
    const facts = C.node("dl", { class: "calm-facts" });
    const fact = (name, content) => facts.append(C.node("div", {}, C.node("dt", {}, name), C.node("dd", {}, content)));
    const tokens = C.node("span", {});
    step.tokens.forEach((token) => tokens.append(C.node("span", { class: "calm-token" }, C.visible(token))));
    fact(step.tokens.length === 1 ? "token" : "tokens", tokens);
    fact("vectors drawn", String(step.draws));
    fact("time", `${(1000 * step.seconds).toFixed(0)} ms`);
    const bars = C.node("ul", { class: "calm-bars" });
    const most = Math.max(...step.candidates.map((c) => c.probability), 1e-9);
    for (const c of step.candidates) {
      const fill = C.node("div", { class: "fill", style: `width:${((100 * c.probability) / most).toFixed(1)}%` });
      bars.append(
        C.node(
          "li",
          { class: c.chosen ? "chosen" : "" },
          C.node("span", { class: "name", title: c.text }, `${c.chosen ? "▸ " : "  "}${C.visible(c.text)}`),
          C.node("div", { class: "track" }, fill),
          C.node("span", { class: "figure" }, `${C.percent(c.probability)}${c.count ? `, drawn ${c.count}×` : ""}`),
        ),
      );
    }
    if (step.more) bars.append(C.node("li", { class: "calm-note" }, `and ${step.more} more`));
    detail.replaceChildren(
      C.node("h3", {}, `Step ${index + 1}: the pool, after temperature`),
      facts,
      bars,
    );
  };

  const draw = () => {
    const value = props.value;
    if (!value || !value.steps) return;
    C.drawText(text, value);
    const chosen = C.selected.run === value.run ? C.selected.index : value.steps.length - 1;
    C.markText(text, value, { run: value.run, index: chosen });
    drawDetail(value, chosen);
  };
  watch("value", draw);
  C.onSelect(element, ({ run, index }) => {
    if (!props.value || run !== props.value.run) return;
    C.markText(text, props.value, { run, index });
    drawDetail(props.value, index);
  });
  draw();
};
