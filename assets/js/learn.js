// The guided tour: its steps as a list, and a panel that stays in view while a step acts on the page.
window.CALM = window.CALM || {};

CALM.mountTourSteps = (element, props) => {
  const C = window.CALM;
  const steps = props.value;
  const list = element.querySelector("ol");
  const start = element.querySelector("[data-start]");
  const { state, go } = C.tour;
  const notes = steps.map(() => C.node("p", { class: "calm-note" }));
  list.replaceChildren(...steps.map((step, i) =>
    C.node("li", {}, C.node("h2", {}, step.title), C.node("p", {}, step.text), notes[i],
      C.node("button", { type: "button", class: "calm-small", onclick: () => go(i), "aria-label": `Show me step ${i + 1}: ${step.title}` }, "Show me"))));
  start.addEventListener("click", () => go(state.at));
  const draw = () => {
    start.textContent = state.done.length || state.at ? `Go on with step ${state.at + 1}` : "Start the tour";
    steps.forEach((step, i) => (notes[i].textContent = `paper, ${step.section}${state.done.includes(step.name) ? " · ✓ done" : ""}`));
  };
  C.onTour(element, draw);
  draw();
};

CALM.mountTourPanel = (element, props, watch, server, trigger) => {
  const C = window.CALM;
  const SWEEP = [1, 0.8, 0.65, 0.5, 0.4, 0.33];
  const quiet = matchMedia("(prefers-reduced-motion: reduce)");
  const steps = props.value;

  // How far one has come outlives the visit, if the browser lets it.
  const kept = () => {
    try {
      return { at: 0, done: [], open: false, ...JSON.parse(localStorage.getItem("calm-tour")) };
    } catch {
      return { at: 0, done: [], open: false };
    }
  };
  const state = kept();
  state.at = Math.min(Math.max(0, state.at), steps.length - 1);
  const keep = () => {
    try {
      localStorage.setItem("calm-tour", JSON.stringify(state));
    } catch {}
  };

  const openTab = (name) => {
    C.tour.tab = name;
    trigger("select", { name });
  };
  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const appear = async (selector) => {
    for (let turn = 0; turn < 200; turn++) {
      const found = document.querySelector(selector);
      if (found && found.offsetParent) return found;
      await pause(50);
    }
    throw new Error("This part of the page did not open.");
  };
  // Types into an input as a visitor would; Gradio sends what its own state holds, so it gets a moment.
  const fill = async (selector, value) => {
    const input = await appear(selector);
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.dispatchEvent(new Event("change", { bubbles: true }));
    await pause(150);
  };
  const press = async (selector) => (await appear(selector)).click();
  const show = (target) => {
    document.querySelectorAll(".calm-here").forEach((old) => old.classList.remove("calm-here"));
    target.classList.add("calm-here");
    target.scrollIntoView({ block: "start", behavior: quiet.matches ? "auto" : "smooth" });
  };
  const marked = () => {
    const run = C.shown;
    if (!run || !run.steps.length || run.steps[0].distance == null)
      throw new Error("The text that is shown was not written by a CALM: choose one in the menu above and press Generate.");
    const open = run.steps.map((step) => (step.candidates || []).length + (step.others || []).length);
    C.select(run.run, open.indexOf(Math.max(...open))); // where the model knew least what to say
  };
  const until = async (holds) => {
    for (let turn = 0; turn < 400 && !holds(); turn++) await pause(50);
  };

  const actions = {
    encode: async () => {
      await fill("#reconstruct-text textarea", "Once upon a time there was a brave fox named Mia.");
      await fill("#noise input[type=number]", 0);
      await press("#reconstruct");
      return appear("#reconstruct-status");
    },
    disturb: async () => {
      await fill("#noise input[type=number]", 0.3);
      return appear("#noise");
    },
    draw: async () => {
      const button = await appear("#map [data-cloud]");
      marked();
      button.click();
      return appear("#map .calm-tools");
    },
    temper: async () => {
      const detail = await appear("#run .calm-detail");
      marked();
      const button = [...detail.querySelectorAll(".calm-row button")].find((found) => !found.disabled);
      if (button) button.click();
      show(detail);
      await until(() => detail.querySelector("h2")?.innerText.includes("fresh draws") || detail.querySelector("[role=alert]"));
      const slider = detail.querySelector("input[type=range]");
      for (const temperature of quiet.matches ? SWEEP.slice(3, 4) : SWEEP) {
        slider.value = temperature;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        await pause(quiet.matches ? 0 : 350);
      }
      return detail;
    },
    compare: async () => {
      await press("#generate");
      return appear("#status");
    },
    read: async () => {
      await appear("#map [data-play]");
      marked();
      C.select(C.shown.run, 0);
      await press("#map [data-play]");
      return appear("#map .calm-tools");
    },
    race: async () => {
      await press("#race");
      return appear("#race-status");
    },
  };

  const button = (name, act, more = {}) => C.node("button", { type: "button", class: "calm-small", onclick: act, ...more }, name);
  const title = C.node("h2", { tabindex: "-1" });
  const place = C.node("p", { class: "calm-note" });
  const text = C.node("p", {});
  const look = C.node("p", { class: "calm-look", role: "status" });
  const act = button("", async () => {
    const step = steps[state.at];
    act.disabled = true;
    try {
      const target = await actions[step.name]();
      if (!state.done.includes(step.name)) state.done.push(step.name);
      look.textContent = step.look;
      show(target);
    } catch (error) {
      look.textContent = error.message;
    }
    act.disabled = false;
    keep();
    draw();
  }, { class: "calm-small calm-strong" });
  const back = button("Back", () => go(state.at - 1));
  const next = button("Next", () => (state.at === steps.length - 1 ? leave() : go(state.at + 1)));
  const away = button("Leave the tour", () => leave());
  const panel = C.node("section", { class: "calm-tour", "aria-label": "guided tour", hidden: true,
    onkeydown: (event) => event.key === "Escape" && leave() },
    place, title, text, look, C.node("div", { class: "calm-actions" }, act, back, next, away));
  document.querySelectorAll(".calm-tour").forEach((old) => old.remove());
  document.querySelector(".gradio-container .contain").append(panel);

  const draw = () => {
    const step = steps[state.at];
    panel.hidden = !state.open;
    place.textContent = `Step ${state.at + 1} of ${steps.length} · paper, ${step.section}`;
    title.textContent = step.title;
    text.textContent = step.text;
    act.textContent = step.action;
    back.disabled = state.at === 0;
    next.textContent = state.at === steps.length - 1 ? "Finish" : "Next";
    window.dispatchEvent(new CustomEvent("calm-tour"));
  };

  const go = (at) => {
    Object.assign(state, { at, open: true });
    look.textContent = "";
    keep();
    draw();
    openTab(steps[at].tab);
    title.focus({ preventScroll: true });
  };

  const leave = () => {
    state.open = false;
    if (state.at === steps.length - 1 && state.done.includes(steps[state.at].name)) state.at = 0;
    document.querySelectorAll(".calm-here").forEach((old) => old.classList.remove("calm-here"));
    keep();
    draw();
    openTab("learn");
  };

  C.tour = { state, go, tab: null };
  draw();
};
