// The state of the page: its runs, the shown run and the selection. Views read the store and subscribe to its topics.
// Only the store's methods change it.
import { mostOpenStep } from "./certainty.js";
import { savedValue } from "./storage.js";
import { createSubscriptions } from "./subscriptions.js";

/**
 * "run": another run is shown, or the shown run has new steps. "step": another step is marked. "pool", "cloud": samples
 * that were drawn on request have arrived. "fit": a map was fitted. "tour": the progress in the tour has changed.
 * "tour_tab", "tour_model": the tour requests a tab, or a CALM. "measure": another measure colours the chunks.
 * @typedef {"run" | "step" | "pool" | "cloud" | "fit" | "tour" | "tour_tab" | "tour_model" | "measure"} Topic
 */

const MAX_RUNS = 40;
const MAX_SAVED_RUNS = 6;
const savedRuns = savedValue("sessionStorage", "calm.runs.2");
const savedTour = savedValue("localStorage", "calm.tour");

/**
 * @param {string} runId
 * @param {number} stepIndex
 */
const stepKey = (runId, stepIndex) => `${runId}:${stepIndex}`;

class Store {
  /** @type {Map<string, RunPayload>} the runs of this visit, the latest last */
  runs = new Map();
  /** @type {Map<string, string[]>} for a run, the ids of all samples of its prompt that were generated together */
  groups = new Map();
  /** @type {RunPayload | null} */
  shown = null;
  /** @type {StepReference | null} the step that the visitor has pinned */
  selected = null;
  /** @type {StepReference | null} the step under the pointer */
  previewed = null;
  /** @type {import("./certainty.js").Measure} what colours the chunks */
  measure = "entropy";
  /** @type {FittedMap | null} */
  fit = null;
  /** @type {TourProgress} */
  tour = { step_index: 0, done: [], open: false, offered: false };
  /** The tab that the tour requests. */
  tourTab = "";

  /** @type {Map<string, number>} the progress of each run that has arrived */
  #progress = new Map();
  /** @type {Map<string, Pool>} */
  #pools = new Map();
  /** @type {Map<string, Cloud>} */
  #clouds = new Map();
  /** @type {Map<Topic, ReturnType<typeof createSubscriptions>>} */
  #subscriptions = new Map();

  /**
   * Calls back on each change of a topic, as long as the element is on the page.
   * @param {Topic} topic
   * @param {HTMLElement} element
   * @param {() => void} listener
   */
  subscribe(topic, element, listener) {
    const subscriptions = this.#subscriptions.get(topic) ?? createSubscriptions();
    this.#subscriptions.set(topic, subscriptions);
    subscriptions.add(element, listener);
  }

  /** @param {Topic} topic */
  #notify(topic) {
    this.#subscriptions.get(topic)?.notify();
  }

  // Runs

  /**
   * Takes a run and its samples from Python and shows the run. Python sends each state to several components, and the
   * component of a tab that opens late gets the value with which the page was built: a state that is not newer than
   * what has arrived of the same run changes nothing.
   * @param {RunPayload | null} run
   */
  receive(run) {
    if (!run?.steps) return;
    const known = this.#progress.get(run.run_id) ?? -1;
    if (progress(run) <= known) return;
    this.#progress.set(run.run_id, progress(run));
    const group = [run, ...(run.samples ?? [])];
    for (const member of group) this.remember(member);
    if (group.length > 1)
      for (const member of group)
        this.groups.set(
          member.run_id,
          group.map((run) => run.run_id),
        );
    if (run.finished && run.run_id !== "example") this.#saveRuns(run.run_id);
    this.shown = run;
    this.#notify("run");
  }

  /** @param {RunPayload} run */
  remember(run) {
    this.runs.delete(run.run_id);
    this.runs.set(run.run_id, run);
    const [oldest] = this.runs.keys();
    if (this.runs.size > MAX_RUNS) this.#forget(oldest);
  }

  /** @param {string} runId */
  #forget(runId) {
    this.runs.delete(runId);
    this.groups.delete(runId);
    for (const samples of [this.#pools, this.#clouds]) {
      for (const key of samples.keys()) if (key.startsWith(`${runId}:`)) samples.delete(key);
    }
  }

  /** @param {RunPayload} run one of `runs` */
  show(run) {
    this.shown = run;
    this.#notify("run");
  }

  /**
   * The stored samples of the same prompt, including the run.
   * @param {RunPayload} run
   * @returns {RunPayload[]}
   */
  samplesOf(run) {
    return (this.groups.get(run.run_id) ?? []).flatMap((id) => this.runs.get(id) ?? []);
  }

  /** @param {string} shownId */
  #saveRuns(shownId) {
    const runs = [...this.runs.values()].slice(-MAX_SAVED_RUNS);
    const groups = [...this.groups];
    while (runs.length && !savedRuns.write({ shown: shownId, runs, groups })) runs.shift(); // the storage is full
  }

  /**
   * Takes the runs that were saved before a reload and returns the one that was shown then.
   * @returns {RunPayload | null}
   */
  restoreRuns() {
    const saved = savedRuns.read();
    if (!saved) return null;
    for (const run of saved.runs) this.remember(run);
    for (const [id, group] of saved.groups) if (this.runs.has(id)) this.groups.set(id, group);
    return this.runs.get(saved.shown) ?? null;
  }

  // Steps

  /** Index of the step of the shown run that all views mark: the previewed one, else the pinned one, else null. */
  get markedStep() {
    const runId = this.shown?.run_id;
    const marked = [this.previewed, this.selected].find((step) => step?.run_id === runId);
    return marked?.step_index ?? null;
  }

  /**
   * The step of a detail view: the marked step, or else the most open one of a finished run and the last one of a run
   * that grows; null if the run has no step.
   */
  get currentStep() {
    const run = this.shown;
    if (!run?.steps.length) return null;
    const last = run.steps.length - 1;
    return Math.min(this.markedStep ?? (run.finished ? this.mostOpenStep : null) ?? last, last);
  }

  /** Index of the step of the shown run with the highest entropy; null if it has no step. */
  get mostOpenStep() {
    return this.shown && mostOpenStep(this.shown);
  }

  /**
   * Pins a step of the shown run.
   * @param {number} stepIndex
   */
  selectStep(stepIndex) {
    if (!this.shown) return;
    const before = this.markedStep;
    this.selected = { run_id: this.shown.run_id, step_index: stepIndex };
    this.previewed = null;
    if (before !== stepIndex) this.#notify("step");
  }

  /**
   * Marks a step of the shown run while the pointer is over it; null removes the mark.
   * @param {number | null} stepIndex
   */
  previewStep(stepIndex) {
    if (!this.shown) return;
    const before = this.markedStep;
    this.previewed = stepIndex === null ? null : { run_id: this.shown.run_id, step_index: stepIndex };
    if (this.markedStep !== before) this.#notify("step");
  }

  /** @param {import("./certainty.js").Measure} measure */
  colourBy(measure) {
    this.measure = measure;
    this.#notify("measure");
  }

  /**
   * The pool that was drawn on request at a step.
   * @param {string} runId
   * @param {number} stepIndex
   */
  freshPool(runId, stepIndex) {
    return this.#pools.get(stepKey(runId, stepIndex)) ?? null;
  }

  /**
   * @param {string} runId
   * @param {number} stepIndex
   * @param {Pool} pool
   */
  addFreshPool(runId, stepIndex, pool) {
    this.#pools.set(stepKey(runId, stepIndex), pool);
    this.#notify("pool");
  }

  /**
   * The vectors that were drawn on request at a step.
   * @param {string} runId
   * @param {number} stepIndex
   */
  cloud(runId, stepIndex) {
    return this.#clouds.get(stepKey(runId, stepIndex)) ?? null;
  }

  /**
   * @param {string} runId
   * @param {number} stepIndex
   * @param {Cloud} cloud
   */
  addCloud(runId, stepIndex, cloud) {
    this.#clouds.set(stepKey(runId, stepIndex), cloud);
    this.#notify("cloud");
  }

  /** @param {FittedMap} fit */
  setFit(fit) {
    this.fit = fit;
    this.#notify("fit");
  }

  /** @param {ModelMap["runs"]} placed positions on the map of the runs' model, which is new */
  placeRuns(placed) {
    for (const [runId, { predicted, encoded }] of Object.entries(placed)) {
      const run = this.runs.get(runId);
      if (!run) continue;
      run.steps.forEach((step, i) => {
        step.predicted = predicted[i];
        step.encoded = encoded[i];
      });
    }
    this.#notify("run");
  }

  // The tour

  /** @param {Partial<TourProgress>} change */
  updateTour(change) {
    Object.assign(this.tour, change);
    savedTour.write(this.tour);
    this.#notify("tour");
  }

  /**
   * @param {number} stepIndex
   * @param {string} tab
   */
  openTourStep(stepIndex, tab) {
    this.updateTour({ step_index: stepIndex, open: true, offered: true });
    this.#openTourTab(tab);
  }

  chooseTourModel = () => this.#notify("tour_model");

  /** @param {number} stepIndex where the visitor continues later */
  leaveTour(stepIndex) {
    this.updateTour({ step_index: stepIndex, open: false });
    this.#openTourTab("learn");
  }

  /** @param {string} tab */
  #openTourTab(tab) {
    this.tourTab = tab;
    this.#notify("tour_tab");
  }

  /** @param {number} stepCount */
  restoreTour(stepCount) {
    Object.assign(this.tour, savedTour.read());
    this.tour.step_index = Math.min(Math.max(0, this.tour.step_index), stepCount - 1);
  }
}

/**
 * How far a run and its samples have come: a number that grows with each step and at the end.
 * @param {RunPayload} run
 * @returns {number}
 */
function progress({ steps, finished, samples = [] }) {
  return samples.reduce((sum, sample) => sum + progress(sample), steps.length + (finished ? 1 : 0));
}

export const store = new Store();
