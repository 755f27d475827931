// What all components share: one selection for the whole page, the chunk as an element, small DOM helpers.
window.CALM = window.CALM || {};
(() => {
  const C = window.CALM;
  C.selected = { run: null, index: null };

  C.select = (run, index) => {
    C.selected = { run, index };
    window.dispatchEvent(new CustomEvent("calm-select", { detail: C.selected }));
  };

  const on = (name) => (element, callback) => {
    const listener = (event) => {
      if (!element.isConnected) window.removeEventListener(name, listener);
      else callback(event.detail);
    };
    window.addEventListener(name, listener);
  };
  C.onSelect = on("calm-select");

  // The runs of this visit, so that one can go back to a branch that was left. All views show the same run.
  const REMEMBERED = 40;
  C.runs = new Map();
  C.groups = new Map(); // run -> the runs of its prompt that were written beside it
  C.remember = (value) => {
    C.runs.delete(value.run);
    C.runs.set(value.run, value);
    if (C.runs.size > REMEMBERED) C.runs.delete(C.runs.keys().next().value);
  };
  C.shown = null; // for a view that is made later
  C.show = (run) => window.dispatchEvent(new CustomEvent("calm-show", { detail: C.runs.get(run) }));
  C.onShow = on("calm-show");
  C.onFit = on("calm-fit");
  C.onTour = on("calm-tour");

  C.node = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child != null));
    return node;
  };

  // A newline inside a chunk is shown as the break it is, everywhere else as a sign.
  C.visible = (text) => text.replace(/\n/g, "⏎");
  C.percent = (share) => `${(100 * share + 1e-9).toFixed(share < 0.1 && share > 0 ? 1 : 0)}%`; // equal shares look equal

  // Not a button element: lines would break around it, in the middle of words.
  C.chunk = (run, step, index) =>
    C.node(
      "span",
      {
        class: `calm-chunk${index % 2 ? " odd" : ""}`,
        role: "button",
        tabindex: "0",
        "data-index": index,
        "aria-pressed": "false",
        title: step.tokens.map((t) => C.visible(t)).join(" · "),
        onclick: () => C.select(run, index),
        onfocus: () => C.select(run, index),
        onmouseenter: () => C.select(run, index),
        onkeydown: (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          C.select(run, index);
        },
      },
      step.text || (step.end ? "" : "∅"),
    );

  // Draws the text of a run; chunks that are already there stay, so that focus and hover survive streaming.
  C.drawText = (target, value) => {
    if (target.dataset.run !== String(value.run) || target._count > value.steps.length) {
      target.replaceChildren(C.node("span", { class: "calm-prompt" }, value.prompt));
      target.dataset.run = value.run;
      target._count = 0;
    }
    for (let i = target._count; i < value.steps.length; i++) target.append(C.chunk(value.run, value.steps[i], i));
    target._count = value.steps.length;
    const old = target.querySelector(".calm-end");
    if (old) old.remove();
    if (value.ended) target.append(C.node("span", { class: "calm-end" }, "end of text"));
  };

  C.markText = (target, value, { run, index }) => {
    for (const chunk of target.querySelectorAll(".calm-chunk")) {
      const on = String(run) === String(value.run) && Number(chunk.dataset.index) === index;
      chunk.classList.toggle("selected", on);
      chunk.setAttribute("aria-pressed", String(on));
    }
  };

  C.colours = () => {
    const style = getComputedStyle(document.querySelector(".gradio-container") || document.body);
    const of = (name) => style.getPropertyValue(name).trim();
    const dark = document.body.classList.contains("dark");
    return {
      accent: of("--calm-accent") || (dark ? "#7db4ff" : "#0f62c9"),
      second: of("--calm-second") || (dark ? "#f0a35e" : "#b5540b"),
      others: dark ? ["#b99df5", "#6fcf97", "#f29bb2"] : ["#6b3fc4", "#1c7c4a", "#b0305c"],
      quiet: of("--calm-quiet") || "#5b6472",
      ink: dark ? "#e6e9ef" : "#1f2733",
      grid: dark ? "rgba(170,180,195,0.18)" : "rgba(100,110,125,0.18)",
      cloud: dark ? "rgba(170,180,195,0.38)" : "rgba(100,110,125,0.32)",
    };
  };

  // log Gamma(x), x > 0: Stirling's series where it is exact to double precision, the recurrence below.
  const logGamma = (x) => {
    let shift = 0;
    for (; x < 12; x++) shift -= Math.log(x);
    const r = 1 / (x * x);
    const series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / x;
    return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series;
  };

  // The page's copy of calm.temper, so that a pool is weighted anew while a slider moves; a test compares them.
  C.temper = (counts, temperature) => {
    let s = 1 / temperature;
    const highest = Math.max(...counts);
    if (Math.floor(s) > highest) s = Math.max(1, highest + s - Math.floor(s));
    const least = Math.max(1, Math.floor(s));
    const logs = counts.map((k) => (k >= least ? logGamma(k + 1) - logGamma(k + 1 - s) : -Infinity));
    const peak = Math.max(...logs);
    const weights = logs.map((log) => Math.exp(log - peak));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight) => weight / total);
  };

  C.temperatureWords = (value) => {
    const t = Number(value);
    if (!(t > 0)) return "The temperature must be above 0.";
    const power = 1 / t;
    const shown = t.toFixed(2);
    const near = (x) => Math.abs(power - x) < 0.005;
    if (near(1)) return `${shown}: chunks as likely as the model draws them`;
    if (near(2)) return `${shown}: each chunk's odds squared`;
    if (near(3)) return `${shown}: each chunk's odds cubed`;
    if (power < 1) return `${shown}: odds flattened, to the power ${power.toFixed(2)}; rare chunks come more often`;
    return `${shown}: each chunk's odds to the power ${power.toFixed(2)}`;
  };

  // Components may start before their scripts have loaded; they wait for what they need.
  C.whenReady = (names, run) => {
    const ready = names.every((name) => name.split(".").reduce((o, key) => o && o[key], window));
    if (ready) run();
    else setTimeout(() => C.whenReady(names, run), 40);
  };
})();
