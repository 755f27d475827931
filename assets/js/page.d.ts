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

interface RunServer {
  draw_pool: (request: StepRequest) => Promise<Pool | ErrorPayload>;
}

interface MapServer {
  draw_cloud: (request: StepRequest) => Promise<Cloud | ErrorPayload>;
}

interface ReconstructionServer {
  walk: (request: WalkRequest) => Promise<Walk | ErrorPayload>;
}

/** The map file of a model: training chunks with their positions in each layout. */
interface MapFile {
  texts: string[];
  counts: number[];
  /** [n, 2] */
  plane: number[][];
  /** [n, 3] */
  space: number[][];
  /** [n, 3] */
  principal: number[][];
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
}

interface PlotlyElement extends HTMLElement {
  data?: PlotlyAttributes[];
  layout?: PlotlyAttributes;
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
