// The Generate tab's view of a run: text, actions, samples, branches and the candidates of a step.
import { createBranchTree } from "./branches.js";
import { createCandidatePanel } from "./candidates.js";
import { certaintyScale, createCertaintyControl } from "./certainty.js";
import { createChunkText } from "./chunk_text.js";
import { find, node, prefersReducedMotion } from "./dom.js";
import { whenShown } from "./figures.js";
import { onInputs } from "./inputs.js";
import { createPathMap } from "./path_map.js";
import { repeatOpenedLink } from "./repeat.js";
import { replay } from "./replay.js";
import { runActions } from "./run_actions.js";
import { createRunCard, generationCard, saveShownRun } from "./run_card.js";
import { createRunReader } from "./run_lines.js";
import { createRunSteps } from "./run_steps.js";
import { createSampleList } from "./samples.js";
import { answerOf } from "./server.js";
import { createSheet } from "./sheet.js";
import { createRunProgress } from "./step_counter.js";
import { store } from "./store.js";
import { createSuggestions } from "./suggestions.js";
import { createCodePanel } from "./use_in_code.js";

/** @param {Component<string, RunServer>} component */
export function mountRunText({ element, props, watch, server, trigger }) {
  /** @param {RunPayload} run */
  const showRun = (run) => {
    store.show(run);
    trigger("show_run", {});
  };
  const text = createChunkText(find(element, ".calm-text"));
  const progress = createRunProgress(find(element, ".calm-counter"), find(element, ".calm-ghost"));
  const certainty = createCertaintyControl(find(element, ".calm-certainty"), store.measure, (measure) =>
    store.colourBy(measure),
  );
  const suggestions = createSuggestions(find(element, ".calm-suggestions"), (prompt) =>
    trigger("suggestion", { prompt }),
  );
  const samples = createSampleList(find(element, ".calm-samples"), showRun);
  const branches = createBranchTree(find(element, ".calm-tree"), showRun);
  const candidates = createCandidatePanel(find(element, ".calm-detail"), {
    drawPool: (run, stepIndex) => drawPool(server, run, stepIndex),
    branch: ({ run_id }, stepIndex, pool, choice) => {
      const run = store.runs.get(run_id); // the vectors came after the panel was rendered
      if (run) trigger("branch", branchRequest(run, stepIndex, pool, choice));
    },
  });
  createSheet(find(element, ".calm-sheet"), find(element, ".calm-text"));
  const actions = find(element, ".calm-actions");
  const cardElement = node("div", { class: "calm-card" });
  const card = createRunCard(cardElement);
  actions.before(cardElement);
  actions.append(...runActions());
  const code = createCodePanel();
  actions.after(code.element);
  onInputs(element, () => store.shown && saveShownRun(store.shown));
  createPathMap(find(element, ".calm-path"), server);
  createRunSteps(element, find(element, ".calm-run-steps"));

  const renderStep = () => {
    if (!store.shown) return;
    text.mark(store.currentStep);
    candidates.render(store.shown, store.currentStep);
  };
  const renderScale = () => store.shown && certainty.render(certaintyScale(store.shown, store.measure));
  const render = () => {
    const run = store.shown;
    if (!run) return;
    actions.hidden = false;
    card.render(generationCard(run));
    code.render();
    saveShownRun(run);
    text.render(run);
    progress.render(run);
    suggestions.render(run);
    renderScale();
    samples.render(run);
    branches.render(run);
    renderStep();
  };
  store.subscribe("run", element, render);
  store.subscribe("step", element, renderStep);
  store.subscribe("pool", element, renderStep);
  store.subscribe("measure", element, renderScale);
  const readRun = createRunReader();
  watch("value", () => store.receive(readRun(props.value)));
  store.receive(readRun(props.value));
  render();

  const restored = store.restoreRuns();
  if (restored) showRun(restored);
  if (!repeatOpenedLink(restored, trigger) && !restored) replayExample(element, text, progress);
}

/**
 * Replays the example that the page opens with, as soon as its text shows.
 * @param {HTMLElement} element
 * @param {ReturnType<typeof createChunkText>} text
 * @param {ReturnType<typeof createRunProgress>} progress
 */
function replayExample(element, text, progress) {
  const run = store.shown;
  if (!run?.finished || prefersReducedMotion()) return;
  whenShown(element, () => {
    if (store.shown !== run) return;
    const stop = replay(run.steps.length, (steps) => {
      if (store.shown !== run) return stop();
      text.reveal(steps ?? run.steps.length);
      progress.render(run, steps ?? run.steps.length);
      store.previewStep(steps === null ? null : steps - 1);
    });
    store.subscribe("run", element, stop);
  });
}

/**
 * @param {RunServer} server
 * @param {RunPayload} run
 * @param {number} stepIndex
 * @returns {Promise<string | null>} an error message, or null once the pool is in the store
 */
async function drawPool(server, run, stepIndex) {
  const request = {
    model: run.model,
    prompt: run.prompt,
    prefix_chunks: run.steps.slice(0, stepIndex).map((step) => step.token_ids),
    chosen: run.steps[stepIndex].token_ids,
  };
  const answer = await answerOf(server.draw_pool(request));
  if ("error" in answer) return answer.error;
  store.addFreshPool(run.run_id, stepIndex, answer);
  return null;
}

/**
 * @param {RunPayload} run
 * @param {number} stepIndex
 * @param {Pool} pool
 * @param {number} choice
 * @returns {BranchRequest}
 */
function branchRequest(run, stepIndex, pool, choice) {
  return {
    model: run.model,
    prompt: run.prompt,
    run_id: run.run_id,
    origin: run.origin,
    steps: run.steps.slice(0, stepIndex + 1),
    vectors: run.vectors ?? [],
    pool: { candidates: pool.candidates, other_counts: pool.other_counts }, // the step's own pool
    choice,
  };
}
