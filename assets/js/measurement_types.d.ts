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

/** BrierLM of a model with the 95 % interval of its gap to the true distribution, and FLOPs per token. */
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
  /** Expected BrierLM of the true distribution. */
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

/** A figure with its 95 % interval. */
interface Interval {
  value: number;
  low: number;
  high: number;
}

/** A generative head with a number of evaluations of its network for each draw. */
interface HeadPoint {
  evaluations: number;
  draws_per_second: number;
  brier_lm: Interval;
  /** Share of well-formed sentences in stories generated at T = 1. */
  well_formed: Interval;
  /** The same at T = 0.5. */
  well_formed_tempered?: Interval;
}

/** The run that trained a head. */
interface HeadTraining {
  step: number;
  tokens: number;
  cpu_seconds: number;
}

interface HeadFigures {
  /** `energy`, `diffusion` or `flow`, or the name of the reference model. */
  name: string;
  points: HeadPoint[];
  training?: HeadTraining;
}

interface PlaceChunk {
  text: string;
  /** Its probability in the language; 0 below 0.0001. */
  probability: number;
}

/** The draws of a head at a place. */
interface HeadDraws {
  name: string;
  /** The first two principal components of each draw. */
  points: number[][];
  /** The chunk that each draw decodes to: its index in the chunks of the place. */
  chunks: number[];
}

/** A chunk boundary of a held-out story, with the draws of each head. */
interface Place {
  context: string;
  /** All chunks that are likely or were drawn; the likely ones first. */
  chunks: PlaceChunk[];
  /** The first two principal components of the likely chunks. */
  likely: number[][];
  draws: HeadDraws[];
}

interface HeadsPayload {
  heads: HeadFigures[];
  places: Place[];
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
