// The text of a run, chunk by chunk, and the pool behind the selected chunk, weighted anew as a slider moves.
window.CALM = window.CALM || {};
CALM.mountRun = (element, props, watch, server, trigger) => {
  const C = window.CALM;
  const text = element.querySelector(".calm-text");
  const detail = element.querySelector(".calm-detail");
  const tree = element.querySelector(".calm-tree");
  const actions = element.querySelector(".calm-actions");
  const samples = element.querySelector(".calm-samples");
  const LOW = 0.1;
  const HIGH = 2;
  const opened = new Map(); // run:index -> a full pool, drawn on demand
  let temperature = null; // of the slider, until the next run
  let drawn = null; // what the detail shows: run, index, pool

  // A token-by-token model knows the probabilities of its candidates; there is nothing to weigh.
  const tell = (pool, rows, told) => {
    rows.forEach(({ tempered, figure }, i) => {
      const { probability } = pool.candidates[i];
      tempered.style.width = `${((100 * probability) / pool.candidates[0].probability).toFixed(2)}%`;
      figure.textContent = C.percent(probability);
    });
    told.textContent = "A token-by-token model knows the probability of every token: no pool is drawn.";
  };

  const weigh = (pool, rows, told) => {
    const t = temperature ?? props.value.temperature;
    const others = pool.others.flatMap(([count, chunks]) => Array(chunks).fill(count));
    const counts = [...pool.candidates.map((c) => c.count), ...others];
    const total = counts.reduce((sum, count) => sum + count, 0);
    const shares = C.temper(counts, t);
    const most = Math.max(...shares, counts[0] / total);
    rows.forEach(({ share, tempered, figure }, i) => {
      share.style.width = `${((100 * counts[i]) / total / most).toFixed(2)}%`;
      tempered.style.width = `${((100 * shares[i]) / most).toFixed(2)}%`;
      figure.textContent = `${C.percent(counts[i] / total)} → ${C.percent(shares[i])}, drawn ${counts[i]}×`;
    });
    const rest = shares.slice(rows.length).reduce((sum, share) => sum + share, 0);
    told.textContent = C.temperatureWords(t) + (others.length ? `; ${others.length} more chunks have ${C.percent(rest)}` : "");
  };

  const slider = (onmove) => {
    const value = temperature ?? props.value.temperature;
    const input = C.node("input", {
      type: "range", min: LOW, max: HIGH, step: 0.01, value, class: "calm-range",
      "aria-label": "temperature with which the pool is weighted",
      oninput: () => {
        temperature = Number(input.value);
        onmove();
      },
    });
    const ticks = C.node("div", { class: "calm-ticks", "aria-hidden": "true" });
    // The published rule knows only these.
    [[1, "1"], [1 / 2, "½"], [1 / 3, "⅓"], [1 / 4, ""], [1 / 5, ""], [1 / 6, ""]].forEach(([t, name]) =>
      ticks.append(C.node("span", { style: `left:${(100 * (t - LOW)) / (HIGH - LOW)}%` }, name)),
    );
    return C.node("div", { class: "calm-weigh" }, C.node("span", {}, "weighted at T ="), C.node("div", {}, input, ticks));
  };

  const openPool = async (value, index, button) => {
    const step = value.steps[index];
    button.disabled = true;
    button.textContent = "Drawing …";
    const chunks = value.steps.slice(0, index).map((before) => before.ids);
    const found = await server.open_pool({ model: value.model, prompt: value.prompt, chunks, chosen: step.ids });
    if (found.error) button.replaceWith(C.node("span", { class: "calm-note calm-error", role: "alert" }, found.error));
    else opened.set(`${value.run}:${index}`, found);
    if (!found.error && drawn.run === value.run && drawn.index === index) drawDetail(value, index, true);
  };

  const leave = (value, index, pool, candidate) => {
    C.remember(value);
    const { candidates, others } = pool;
    trigger("submit", {
      model: value.model, prompt: value.prompt, run: value.run, steps: value.steps.slice(0, index + 1), vectors: value.vectors || [], pool: { candidates, others },
      choice: candidates.indexOf(candidate),
    });
  };

  const goTo = (value) => {
    C.show(value.run);
    trigger("select", { told: value.told });
  };

  // The runs that left one another, each below the one that it left.
  const drawTree = (value) => {
    const parent = (found) => found.parent && C.runs.get(found.parent.run);
    let root = value;
    while (parent(root)) root = parent(root);
    const rows = [];
    const grow = (found, depth) => {
      rows.push([found, depth]);
      for (const other of C.runs.values()) if (other.parent && other.parent.run === found.run) grow(other, depth + 1);
    };
    grow(root, 0);
    const list = C.node("ul", {});
    for (const [found, depth] of rows) {
      const left = found.parent && found.steps[found.parent.index];
      const name = left ? `step ${found.parent.index + 1}: “${C.visible(left.text)}”` : "first text";
      const here = found.run === value.run;
      list.append(
        C.node("li", { style: `margin-left:${depth * 1.2}rem` },
          C.node("button", { type: "button", class: "calm-small", "aria-current": here ? "true" : null, onclick: () => goTo(found) },
            `${depth ? "↳ " : ""}${name}`)),
      );
    }
    tree.hidden = rows.length < 2;
    tree.replaceChildren(C.node("h2", {}, "Branches"), list);
  };

  const drawDetail = (value, index, anew = false) => {
    const step = value.steps[index];
    if (!step) {
      drawn = null;
      detail.replaceChildren(C.node("p", { class: "calm-note" }, "Point at a chunk to see what it was chosen from."));
      return;
    }
    if (drawn && drawn.run === value.run && drawn.index === index && !anew) return;
    if (!drawn || drawn.run !== value.run) temperature = null;
    const full = opened.get(`${value.run}:${index}`);
    const pool = full || step;
    drawn = { run: value.run, index };
    const facts = C.node("dl", { class: "calm-facts" });
    const fact = (name, content) => facts.append(C.node("div", {}, C.node("dt", {}, name), C.node("dd", {}, content)));
    const tokens = C.node("span", {});
    step.tokens.forEach((token) => tokens.append(C.node("span", { class: "calm-token" }, C.visible(token))));
    fact(step.tokens.length === 1 ? "token" : "tokens", tokens);
    const pooled = pool.candidates.every((c) => c.probability == null);
    if (pooled) fact("vectors drawn", String(step.draws));
    if (step.by_hand) fact("chosen", "by hand");
    else fact("time", `${(1000 * step.seconds).toFixed(0)} ms`);
    const bars = C.node("ul", { class: "calm-bars" });
    const rows = pool.candidates.map((c) => {
      const row = {
        share: C.node("div", { class: "fill share" }),
        tempered: C.node("div", { class: "fill" }),
        figure: C.node("span", { class: "figure" }),
      };
      const name = c.chosen
        ? C.node("span", { class: "name" }, `▸ ${C.visible(c.text)}`)
        : C.node("button", { class: "name", type: "button", title: `Go on from here with “${C.visible(c.text)}”`,
            onclick: () => leave(value, index, pool, c) }, `↳ ${C.visible(c.text)}`);
      const track = C.node("div", { class: "track" }, pooled ? row.share : null, row.tempered);
      bars.append(C.node("li", { class: c.chosen ? "chosen" : "" }, name, track, row.figure));
      return row;
    });
    const told = C.node("p", { class: "calm-note", role: "status" });
    const button = C.node("button", { type: "button", class: "calm-small", onclick: () => openPool(value, index, button) },
      "Draw 200 here");
    const title = full ? "200 fresh draws" : "the pool";
    detail.replaceChildren(
      C.node("h2", {}, `Step ${index + 1}: ${pooled ? `${title}, as drawn and after temperature` : "the likeliest tokens"}`),
      facts,
      pooled ? C.node("div", { class: "calm-row" }, slider(() => weigh(pool, rows, told)), full ? null : button) : "",
      told,
      bars,
    );
    (pooled ? weigh : tell)(pool, rows, told);
  };

  // Everything that is needed to make the run again, and what came of it.
  const exported = ({ run, told, samples: others, prompt_chunks: _, ...value }) =>
    JSON.stringify({ made_by: "CALM Playground", address: location.href, ...value }, null, 1);

  const action = (name, done, act) => {
    const button = C.node("button", { type: "button", class: "calm-small", onclick: async () => {
      await act(props.value);
      button.textContent = done;
      setTimeout(() => (button.textContent = name), 1500);
    } }, name);
    return button;
  };
  actions.append(
    action("Copy text", "Copied", (value) => C.copy(value.prompt + value.steps.map((step) => step.text).join(""))),
    action("Copy link", "Copied", () => C.copy(location.href)),
    action("Export JSON", "Exported", (value) => C.download(`calm-${value.run}.json`, "application/json", exported(value))),
  );

  // The samples of one prompt beside each other; the one that is shown in full above is marked.
  const drawSamples = (value) => {
    const group = C.groups.get(value.run) || [];
    samples.hidden = group.length < 2;
    if (samples.hidden) return samples.replaceChildren();
    if (samples.dataset.group !== group.join()) {
      samples.dataset.group = group.join();
      samples.replaceChildren(...group.map((run) => C.node("section", { class: "calm-sample" },
        C.node("button", { type: "button", class: "calm-small", onclick: () => goTo(C.runs.get(run)) },
          `Seed ${C.runs.get(run).options.seed}`),
        C.node("p", { class: "calm-text", "aria-label": "a sample" }))));
    }
    group.forEach((run, i) => {
      const [button, target] = samples.children[i].children;
      button.setAttribute("aria-current", String(run === value.run));
      const { steps } = C.runs.get(run);
      for (let n = target.children.length; n < steps.length; n++)
        target.append(C.node("span", { class: `calm-piece${n % 2 ? " odd" : ""}` }, steps[n].text));
    });
  };

  const draw = () => {
    const value = props.value;
    if (!value || !value.steps) return;
    const made = [value, ...(value.samples || [])];
    made.forEach(C.remember);
    if (made.length > 1) made.forEach((one) => C.groups.set(one.run, made.map((other) => other.run)));
    C.shown = value;
    actions.hidden = false;
    if (value.told && value.run !== "example") C.keepRuns(value.run);
    C.drawText(text, value);
    drawSamples(value);
    drawTree(value);
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
  C.onShow(element, (value) => {
    props.value = value;
    draw();
  });
  draw();
  const kept = C.keptRun();
  if (kept) setTimeout(() => goTo(kept), 0);
};
