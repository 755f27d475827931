// What a visitor has set lives in the address: it survives a reload, and the address can be shared.
window.CALM = window.CALM || {};
(() => {
  const C = window.CALM;
  const TABS = ["generate", "reconstruct", "vectors", "race", "evaluate", "learn"];
  let touched = false; // the address stays clean until something differs from what the page began with

  const put = (name, value) => {
    const url = new URL(location);
    url.searchParams.set(name, String(value ?? ""));
    history.replaceState(history.state, "", url);
  };

  // Gradio calls these with the values of the inputs, in the order of `names`.
  C.saveInputs = (names, values) => {
    if (!touched) return;
    names.forEach((name, i) => put(name, values[i]));
  };

  // What the address says, or else what the input holds already.
  C.restoreInputs = (names, values) => {
    const asked = new URL(location).searchParams;
    touched = true;
    return names.map((name, i) => {
      if (!asked.has(name)) return values[i];
      const text = asked.get(name);
      if (typeof values[i] !== "number") return text;
      return text.trim() && Number.isFinite(Number(text)) ? Number(text) : values[i];
    });
  };

  const asked = new URL(location).searchParams.get("tab"); // before the first tab that is drawn says that it is open
  C.savedTab = () => (TABS.includes(asked) ? asked : TABS[0]);
  C.saveTab = (tab) => touched && put("tab", tab);

  // Gradio names the pictures in its footer a second time, beside the words.
  const hushFooter = () => {
    const images = document.querySelectorAll("footer img");
    images.forEach((image) => (image.alt = ""));
    if (!images.length) setTimeout(hushFooter, 200);
  };
  hushFooter();

  C.copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = C.node("textarea", { style: "position:fixed;opacity:0" }); // plain http knows no clipboard
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };

  C.download = (name, type, content) => {
    const address = URL.createObjectURL(new Blob([content], { type }));
    C.node("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };

  // The runs of this visit outlive a reload, as long as the browser has room for them.
  const KEPT = 6;
  C.keepRuns = (shown) => {
    const runs = [...C.runs.values()].slice(-KEPT);
    try {
      sessionStorage.setItem("calm-runs", JSON.stringify({ shown, runs, groups: [...C.groups] }));
    } catch {
      sessionStorage.removeItem("calm-runs");
    }
  };
  // Remembers the runs that were kept; the one that was shown last, if any.
  C.keptRun = () => {
    try {
      const { shown, runs, groups } = JSON.parse(sessionStorage.getItem("calm-runs"));
      runs.forEach(C.remember);
      groups.filter(([, group]) => group.every((run) => C.runs.has(run))).forEach(([run, group]) => C.groups.set(run, group));
      return C.runs.get(shown);
    } catch {
      return undefined;
    }
  };
})();
