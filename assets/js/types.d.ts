/**
 * The values that Python sends to JavaScript, or JavaScript to Python, but those of `measurement_types.d.ts` and
 * `origins.d.ts`. The modules of the same names in `app/payloads` declare them in Python; a test compares both.
 *
 * Shapes: L latent dimensions, P points of a walk.
 */

/** The answer of a server function that failed. */
interface ErrorPayload {
  /** One sentence. */
  error: string;
}

/** The two files of a map. */
interface MapUrls {
  /** Regions, density and the usual prediction error: small, shown first. */
  summary: string;
  /** Texts and positions of the training chunks. */
  chunks: string;
}

/** Numbers and addresses that both languages use, in the head of the page (`#calm-config`). */
interface Config {
  /** Ids of the tabs, in order. */
  tabs: string[];
  /** The model that the page opens with, a CALM. */
  default_model: string;
  plotly_url: string;
  /** The files of each model that has a map. */
  map_urls: Record<string, MapUrls>;
  temperature_max: number;
  max_new_tokens: number;
  /** Size of a pool or a cloud that is drawn on request. */
  fresh_samples: number;
  /** Principal components that a walk through latent space offers. */
  walk_directions: number;
  /** The origin of the page that embeds this one and keeps its settings in its own address; empty if there is none. */
  parent_origin: string;
}

// Runs: the Generate tab and the map

/** Where a vector lies on the map of its model. */
interface MapPosition {
  /** [2], UMAP in the plane. */
  plane: number[];
  /** [3], UMAP in space. */
  space: number[];
  /** [3], coordinates along the first three principal components. */
  principal: number[];
}

/** One distinct chunk among the samples of a step. */
interface CandidatePayload {
  /** An end-of-text token is shown as ∎. */
  text: string;
  /** How many samples decoded to it. */
  count: number;
  token_ids: number[];
  chosen: boolean;
  /** Only for a token-by-token model: its softmax gives the exact probability, and there is no pool. */
  probability?: number;
}

/** The candidates of a step. */
interface Pool {
  /** The most frequent ones, with the chosen one among them. */
  candidates: CandidatePayload[];
  /** The rest, as pairs [count, number of candidates with this count]. */
  other_counts: number[][];
}

/** One step of a run. */
interface StepPayload extends Pool {
  index: number;
  /** What the step adds to the text. */
  text: string;
  tokens: string[];
  token_ids: number[];
  seconds: number;
  /** Whether the chunk holds the end of the text. */
  ended: boolean;
  /** Samples drawn and decoded. */
  draws: number;
  /** Whether the visitor chose the candidate. */
  chosen_by_hand?: boolean;
  /** Prediction error: Euclidean distance from the predicted vector to the encoded one. Only of a CALM. */
  distance?: number;
  /** The position of the predicted vector. Only with a map, as the next two. */
  predicted?: MapPosition;
  /** The position of the vector to which the autoencoder encodes the chosen chunk. */
  encoded?: MapPosition;
  /** How often the chunk occurs in the texts that the map was made of. */
  frequency?: number;
}

interface PromptChunk {
  text: string;
  encoded: MapPosition;
}

interface StepReference {
  run_id: string;
  step_index: number;
}

/** One generated text with everything that the page shows of it. */
interface RunPayload {
  run_id: string;
  model: string;
  prompt: string;
  /** The settings of the last steps: those after the last branch, if there is one. */
  options: GenerationSettings;
  origin: RunOrigin;
  steps: StepPayload[];
  /** Whether the text has ended by itself. */
  ended: boolean;
  /** The step of another run at which this one took another candidate. */
  parent: StepReference | null;
  /** Empty without a map. */
  prompt_chunks: PromptChunk[];
  /** Whether the run is complete, so that the page may keep it. */
  finished: boolean;
  /** HTML of the status line once the run is finished. */
  status: string;
  /** [steps, L], the predicted vectors. Only once the run is finished; empty for a branch of a stopped run. */
  vectors?: number[][];
  /** Prompts in the language of the model, if it does not know that of the prompt. */
  suggestions?: string[];
  /** The runs of the same prompt with the next seeds. */
  samples?: RunPayload[];
}

/** JavaScript asks to continue a run from another candidate of one of its steps. */
interface BranchRequest {
  model: string;
  prompt: string;
  run_id: string;
  /** The origin of the run that is continued. */
  origin: RunOrigin;
  /** Up to and with the step whose candidate is replaced. */
  steps: StepPayload[];
  vectors: number[][];
  pool: Pool;
  /** Index of the new candidate in the pool. */
  choice: number;
}

/** A step of a run: what is there before its chunk. */
interface StepRequest {
  model: string;
  prompt: string;
  /** Token ids of the chunks between the prompt and this step. */
  prefix_chunks: number[][];
  /** Token ids of the chunk that the run chose at this step. */
  chosen?: number[];
}

/** Fresh samples of the next vector at a step. */
interface Cloud {
  positions: MapPosition[];
  texts: string[];
}

/** Chunks to place on the map of a model. */
interface ChunksRequest {
  model: string;
  /** [n, K] token ids. */
  chunks: number[][];
}

/** A request for the training chunks nearest to a chunk: the one at `index` of the map, else the first of `chunks`. */
interface NearestRequest extends ChunksRequest {
  index: number | null;
}

/** A training chunk near a point of the map. */
interface MapNeighbour {
  text: string;
  /** The index of the chunk on the map. */
  index: number;
  /** How often it occurs in the texts of the map. */
  count: number;
  /** Euclidean, in latent space. */
  distance: number;
}

/** The training chunks nearest to a vector, the nearest first. */
interface NearestChunks {
  neighbours: MapNeighbour[];
}

/** The vectors of one run of this visit, for a map of the visitor's own. */
interface OwnRun {
  run_id: string;
  prompt: string;
  /** [steps, L], the predicted vectors. */
  vectors: number[][];
  /** [steps, K], token ids of the steps. */
  chunks: number[][];
}

/** Positions of one run on a map of the visitor's own. */
interface FittedRun {
  predicted: number[][];
  encoded: number[][];
  /** The positions of the chunks of the prompt. */
  prompt: number[][];
}

/** Positions of one run on the map of its model. */
interface PlacedRun {
  predicted: MapPosition[];
  encoded: MapPosition[];
}

/** The map of a model that the page did not have when it was opened. */
interface ModelMap {
  model: string;
  urls: MapUrls;
  /** Runs of this visit, by their ids. */
  runs: Record<string, PlacedRun>;
}

/** A map fitted to training chunks together with the vectors of a visitor's runs. */
interface FittedMap {
  dimensions: 2 | 3;
  /** The texts of the training chunks. */
  texts: string[];
  /** The positions of the training chunks. */
  positions: number[][];
  runs: Record<string, FittedRun>;
}

// Reconstruction

interface TokenPair {
  text: string;
  decoded_text: string;
  exact: boolean;
}

interface ChunkPayload {
  text: string;
  decoded_text: string;
  tokens: TokenPair[];
  token_ids: number[];
  /** [L], of the posterior. */
  mean: number[];
  /** [L], of the posterior. */
  std: number[];
  exact: boolean;
}

interface ReconstructionPayload {
  model: string;
  chunks: ChunkPayload[];
}

/** Share of tokens restored over noise, as pairs [standard deviation, share]. */
interface ChunkSizeCurve {
  name: string;
  points: number[][];
}

interface CurvePayload {
  /** The curve of held-out stories. */
  reference: number[][];
  /** The curve of the visitor's text. */
  measured: number[][];
  /** The curve of the visitor's text for one autoencoder of each K, where they are compared. */
  by_chunk_size: ChunkSizeCurve[];
}

/** JavaScript asks to move the vector of a chunk, along a principal component or towards another vector. */
interface WalkRequest {
  model: string;
  mean: number[];
  /** Number of the principal component. */
  direction: number | null;
  target: number[] | null;
}

interface Neighbour {
  text: string;
  distance: number;
}

interface WalkPoint {
  token_ids: number[];
  tokens: string[];
  text: string;
  /** The nearest training chunks. */
  neighbours: Neighbour[];
}

interface Walk {
  /** [P], standard deviations along the component, or the fraction of the way to the target. */
  offsets: number[];
  points: WalkPoint[];
}
