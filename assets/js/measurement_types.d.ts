/** The values of `app/payloads/measurement_types.py`: those of the tabs Race, Evaluate and Learn. */

interface RacerPayload {
  model: string;
  is_calm: boolean;
  backbone_layers: number;
  backbone_width: number;
  chunk_size: number;
  /** What each step added. */
  texts: string[];
  /** The model's own time after each step. */
  seconds: number[];
  /** The model's own time until its first visible text; null before. */
  first_text_seconds: number | null;
  draws_per_step: number;
  flops_per_token: number;
  finished: boolean;
}

interface RacePayload {
  race_id: number;
  prompt: string;
  racers: RacerPayload[];
}

/** BrierLM of a model with its 95 % interval, and floating-point operations per token. */
interface ModelCost {
  model: string;
  generation_flops: number;
  training_flops: number;
  score: number;
  low: number;
  high: number;
}

interface ScoresPayload {
  models: ModelCost[];
  /** BrierLM of the true distribution of the texts. */
  upper_bound: number;
}

/** BrierLM at a temperature with its 95 % interval. */
interface BrierPoint {
  temperature: number;
  score: number;
  low: number;
  high: number;
}

interface BrierCurve {
  model: string;
  points: BrierPoint[];
}

interface BrierCurvePayload {
  curves: BrierCurve[];
}

/** One step of the guided tour. */
interface TourStep {
  /** The name of its action in `tour_actions.js`. */
  name: string;
  title: string;
  tab: string;
  /** The section of the paper. */
  section: string;
  text: string;
  /** Label of the button that performs the action. */
  action: string;
  /** What the visitor sees after the action. */
  outcome: string;
}
