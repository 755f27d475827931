// The functions that Python calls by name: the mount functions of `app/components.py` and the handlers of events in the
// browser.
import { config } from "./config.js";
import { repairFooter } from "./footer.js";
import { keepNumberBoxes } from "./number_boxes.js";
import { store } from "./store.js";
import { temper } from "./temperature.js";

export { mountBrierCurveView } from "./brier_curve.js";
export { mountCurveView } from "./curve.js";
export { mountHeadDrawsPlot } from "./head_draws.js";
export { mountHeadsPlot } from "./heads.js";
export { mountRaceView } from "./race_view.js";
export { mountReconstructionView } from "./reconstruction.js";
export { mountRunCard } from "./run_card.js";
export { mountRunText } from "./run_text.js";
export { mountScoresPlot } from "./scores.js";
export { temperatureMessage } from "./temperature.js";
export { mountTourPanel } from "./tour_panel.js";
export { mountTourSteps } from "./tour_steps.js";
export { requestedTab, restoreInputs, saveInputs, saveTab } from "./url_state.js";
export { mountFitResult, mountMapResult, mountVectorMapPlot, ownRuns } from "./vector_map.js";

/** The tab that the tour has asked for last. */
export const tourTab = () => store.tourTab;
/** The CALM that the tour asks for. */
export const tourModel = () => config().default_model;

/** The status line of the shown run, as HTML. */
export const shownStatus = () => store.shown?.status ?? "";

window.CALM = { store, temper }; // for the browser tests
repairFooter();
keepNumberBoxes();
