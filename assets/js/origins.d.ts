/** The values of `app/payloads/origins.py`: what repeats a run, and the card that shows it. */

/** The arguments of `calm.generate` besides model and prompt. */
interface GenerationSettings {
  temperature: number;
  max_new_tokens: number;
  pool_size: number;
  sampler: string;
  seed: number;
  alignment: string | null;
}

/** A step at which the visitor took another candidate. */
interface BranchPoint {
  step_index: number;
  /** The token ids of the candidate. */
  token_ids: number[];
  /** The settings of the steps that follow. */
  options: GenerationSettings;
}

/** What repeats a run: the same origin gives the same text. */
interface RunOrigin {
  model: string;
  prompt: string;
  /** The settings of the steps before the first branch. */
  options: GenerationSettings;
  /** In the order of their steps. */
  branches: BranchPoint[];
}

/** JavaScript asks to repeat a run, from a link. */
interface RepeatRequest extends RunOrigin {
  /** Runs with consecutive seeds; 1 for a run with branches. */
  samples: number;
}

/** The settings of a result, and the result for export. */
interface RunCardPayload {
  tab: string;
  /** Id of the button that repeats the run. */
  button: string;
  /** What the card shows, by name. */
  facts: Record<string, string>;
  /** The inputs that repeat the run, by their names in the address of the page. */
  inputs: Record<string, string | number | string[]>;
  /** The result as a table; all rows have the same keys, and null is an unknown value. Empty as long as the work runs. */
  rows: Record<string, string | number | null>[];
}
