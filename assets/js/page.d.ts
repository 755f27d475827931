/** Types of what surrounds the modules: Gradio's component API, Plotly, and what the store holds. */

/** What a `js_on_load` script hands to a mount function. */
interface Component<Value, Server = object> {
  element: HTMLElement;
  props: { value: Value | null };
  /** Calls back after Python has set the property to another value. */
  watch: (property: string, callback: () => void) => void;
  /** The component's server functions. */
  server: Server;
  /** Sends an event of the component to Python. */
  trigger: (event: string, data: object) => void;
}

/** Places the candidates of a step on the map. */
interface PlaceServer {
  place_chunks: (request: ChunksRequest) => Promise<MapPosition[] | ErrorPayload>;
}

interface RunServer extends PlaceServer {
  draw_pool: (request: StepRequest) => Promise<Pool | ErrorPayload>;
}

interface MapServer extends PlaceServer {
  draw_cloud: (request: StepRequest) => Promise<Cloud | ErrorPayload>;
  find_nearest: (request: NearestRequest) => Promise<NearestChunks | ErrorPayload>;
}

interface ReconstructionServer {
  walk: (request: WalkRequest) => Promise<Walk | ErrorPayload>;
}

/** Texts, counts and positions of the training chunks of a map, the most frequent first. */
interface MapChunks {
  texts: string[];
  counts: number[];
  /** [n, 2] */
  plane: number[][];
  /** [n, 3] */
  space: number[][];
  /** [n, 3] */
  principal: number[][];
}

/** What a map shows as a whole (`calm/vector_map/summary.py`). */
interface MapSummary {
  /** The most important first. */
  regions: (MapPosition & { label: string; weight: number })[];
  density: { plane: Density; principal: Density };
  /** 10th percentile, median and 90th percentile, measured on held-out texts; null where they were not measured. */
  prediction_error: { low: number; median: number; high: number; steps: number; temperature: number } | null;
}

/** Kernel density of the training chunks over a grid. */
interface Density {
  /** [2], the first and the last column. */
  x: number[];
  /** [2], the first and the last row. */
  y: number[];
  /** [G, G], the square root of the density, 0 to 100. */
  values: number[][];
}

/** How far a visitor has come in the guided tour. */
interface TourProgress {
  step_index: number;
  /** Names of the steps whose action was performed. */
  done: string[];
  open: boolean;
  /** Whether the page has offered the tour, and the visitor has answered. */
  offered: boolean;
}

/** The colours of the page's theme, for figures. */
interface Palette {
  accent: string;
  second: string;
  others: string[];
  quiet: string;
  paper: string;
  ink: string;
  grid: string;
  cloud: string;
}

// biome-ignore lint/suspicious/noExplicitAny: Plotly's own schema has thousands of attributes
type PlotlyAttributes = Record<string, any>;

interface Figure {
  traces: PlotlyAttributes[];
  layout: PlotlyAttributes;
  config?: PlotlyAttributes;
  /** Called when the figure is on the page. */
  onRender?: () => void;
}

interface PlotlyElement extends HTMLElement {
  data?: PlotlyAttributes[];
  layout?: PlotlyAttributes;
  /** The axes, with the functions that convert between data and pixels. */
  _fullLayout: PlotlyAttributes;
  on: (event: string, listener: (event: PlotlyPointEvent) => void) => void;
}

interface PlotlyPointEvent {
  points: { data: PlotlyAttributes; customdata: number }[];
}

interface PlotlyModule {
  react: (target: HTMLElement, traces: PlotlyAttributes[], layout: PlotlyAttributes, config: PlotlyAttributes) => void;
  purge: (target: HTMLElement) => void;
  downloadImage: (target: HTMLElement, options: PlotlyAttributes) => Promise<string>;
  Plots: { resize: (target: HTMLElement) => void };
}

interface Window {
  Plotly?: PlotlyModule;
  /** For the browser tests. */
  CALM?: object;
}
