// Code that repeats the shown run: in Python, with gradio_client, and with curl.
import { copyText, node } from "./dom.js";
import { action } from "./run_card.js";
import { store } from "./store.js";

/** A folded part of the page with the code for the shown run. */
export function createCodePanel() {
  const list = node("div", {});
  const element = node(
    "details",
    { class: "calm-code", ontoggle: () => render() },
    node("summary", {}, "Use in code"),
    list,
  );
  const render = () => {
    const run = store.shown;
    if (!element.open || !run?.finished) return;
    const snippets = codeFor(run, new URL(".", location.href).href.replace(/\/$/, ""));
    list.replaceChildren(...snippets.map(([title, code]) => snippet(title, code)));
    if (run.origin.branches.length) {
      list.append(
        node("p", { class: "calm-note" }, "The endpoints take no chosen chunks, so only Python repeats this run."),
      );
    }
  };
  return { element, render };
}

/**
 * @param {string} title
 * @param {string} code
 */
function snippet(title, code) {
  const copy = action("Copy", "Copied", () => copyText(code), { "aria-label": `Copy the code: ${title}` });
  const heading = node("p", { class: "calm-note" }, `${title} `, copy);
  return node("div", { "data-code": title }, heading, node("pre", { tabindex: "0" }, node("code", {}, code)));
}

/**
 * Pairs of title and code.
 * @param {RunPayload} run
 * @param {string} address of the page
 * @returns {[string, string][]}
 */
function codeFor(run, address) {
  if (run.origin.branches.length) return [["Python", branchCode(run)]];
  return [
    ["Python", pythonCode(run)],
    ["gradio_client", clientCode(run, address)],
    ["curl", curlCode(run, address)],
  ];
}

/** JSON text is a Python literal, too. @param {unknown} value */
const literal = (value) => JSON.stringify(value);

/**
 * Keyword arguments in the order of the function, one a line.
 * @param {Record<string, unknown>} values
 */
function keywords(values) {
  return Object.entries(values)
    .map(([name, value]) => `    ${name}=${literal(value)},\n`)
    .join("");
}

/** @param {RunPayload} run */
function settingsOf({ options }) {
  const { temperature, max_new_tokens, pool_size, sampler, seed, alignment } = options;
  return { temperature, max_new_tokens, pool_size, sampler, seed, ...(alignment ? { alignment } : {}) };
}

/** @param {RunPayload} run */
function pythonCode(run) {
  return `import calm

prompt = ${literal(run.prompt)}
lm = calm.load(${literal(run.model)})
steps = calm.generate(
    lm,
    prompt,
${keywords(settingsOf(run))})
print(prompt + "".join(step.text for step in steps))
`;
}

/**
 * The code continues the text after the last chunk that the visitor chose.
 * @param {RunPayload} run
 */
function branchCode(run) {
  const last = run.origin.branches[run.origin.branches.length - 1].step_index;
  const given = run.steps.slice(0, last + 1);
  const before = run.prompt + given.map((step) => step.text).join("");
  if (given.length === run.steps.length) return `print(${literal(before)})\n`; // the chosen chunk ends the text
  const chunks = given.map((step) => `    ${literal(step.token_ids)},\n`).join("");
  return `import calm

lm = calm.load(${literal(run.model)})
prefix_chunks = [  # ${literal(given.map((step) => step.text).join(""))}
${chunks}]
steps = calm.generate(
    lm,
    ${literal(run.prompt)},
${keywords(settingsOf(run))}    prefix_chunks=prefix_chunks,
)
print(${literal(before)} + "".join(step.text for step in steps))
`;
}

/**
 * @param {RunPayload} run
 * @param {string} address
 */
function clientCode(run, address) {
  const { temperature, max_new_tokens, seed, sampler, pool_size } = run.options;
  const settings = { temperature, max_new_tokens, seed, sampler, pool_size, model: run.model };
  return `from gradio_client import Client

client = Client(${literal(address)}, verbose=False)
result = client.predict(
    ${literal(run.prompt)},
${keywords({ ...settings, api_name: "/generate" })})
print(result["text"])
`;
}

/**
 * The first call returns the id of an event, the second one streams its results.
 * @param {RunPayload} run
 * @param {string} address
 */
function curlCode(run, address) {
  const { temperature, max_new_tokens, seed, sampler, pool_size } = run.options;
  const data = [run.prompt, temperature, max_new_tokens, seed, sampler, pool_size, run.model];
  const body = literal({ data }).replace(/'/g, "'\\''");
  return `url=${address}/gradio_api/call/generate
id=$(curl -s "$url" -H "Content-Type: application/json" \\
  -d '${body}' | sed 's/.*"event_id" *: *"\\([^"]*\\)".*/\\1/')
curl -sN "$url/$id"
`;
}
