"""The limits and defaults of the page. JavaScript gets the ones that it needs through ``app.payloads.config``."""

MAX_CONCURRENT_RUNS = 24
"""Requests that are generated or queued in the engine at once; more wait in Gradio's own queue."""
MAX_QUEUE = 64
"""Events that Gradio's queue holds."""

MAX_PROMPT = 4_000
"""Characters of a prompt."""
MAX_NEW_TOKENS = 512
DEFAULT_NEW_TOKENS = 256
MAX_SAMPLES = 4
"""Texts generated side by side from one prompt."""
TEMPERATURE_MIN, TEMPERATURE_MAX, TEMPERATURE_DEFAULT = 0.01, 2.0, 0.5
POOL_SIZE_MIN, POOL_SIZE_MAX, DEFAULT_POOL_SIZE = 8, 1_000, 200
"""Samples per step at most: the range of the slider, which Gradio checks, and its default. The endpoints allow more,
up to ``calm.generation.MAX_POOL``."""
FRESH_SAMPLES = 200
"""Samples of a pool or a cloud that a visitor draws at a step."""
SHOWN_CANDIDATES = 8
"""Candidates of a pool that the page lists; the others are only counted."""

MAX_TEXT = 4_000
"""Characters of a text to reconstruct."""
NOISE_LEVELS = [round(0.1 * i, 1) for i in range(31)]
"""Standard deviations of the robustness curve."""
MAX_NOISE = 3.0
WALK_DIRECTIONS = 8
"""Principal components that a walk through latent space offers."""
WALK_REACH, WALK_POINTS = 4.0, 41
"""A walk reaches this many standard deviations to either side, in this many points."""
WALK_NEIGHBOURS = 5
"""Nearest training chunks listed at each point of a walk."""

MAX_EVALUATION = 20_000
"""Characters of the texts that BrierLM is measured on."""
EVALUATION_SAMPLES = 4
"""Samples of the model at each position of a text."""
EXAMPLE_STORIES = 10
"""Held-out stories that a button fills in."""

MAX_PLACED_CHUNKS = 512
"""Chunks that one request places on the map."""
MAP_NEIGHBOURS = 8
"""Training chunks listed as the nearest ones to a point of the map."""

FIT_CHUNKS = 800
"""Training chunks that are fitted together with a visitor's own vectors, so that the map shows what surrounds them."""
MAX_FIT_VECTORS = 4_000
