"""The limits and defaults of the page. JavaScript gets the ones that it needs through ``app.payloads.config``."""

MAX_CONCURRENT_RUNS = 24
"""Requests that are generated or queued in the engine at once; more wait in Gradio's own queue."""
MAX_MEASUREMENTS = 2
"""Evaluations, robustness curves and reconstructions of programs at once."""
MAX_FITS = 2
"""Maps that are fitted at once."""
AT_ONCE = {"model": MAX_CONCURRENT_RUNS, "measure": MAX_MEASUREMENTS, "fit": MAX_FITS}
"""How many requests of each group run at once."""
MAX_REQUESTS_PER_VISITOR = 6
"""Requests of one session of a page or a client at once. MCP tools are one client."""
MAX_DRAWS_PER_VISITOR, MAX_DRAWS_AT_ONCE = 2, 6
"""Pools and clouds that are drawn at once, for one visitor and for all of them."""
MAX_LOOKUPS_PER_VISITOR, MAX_LOOKUPS_AT_ONCE = 6, 24
"""Lookups at once: positions of chunks on the map, nearest chunks, and walks through latent space."""
MAX_RUN_DRAWS = 400_000
"""Samples that one run draws and decodes in all its steps and texts."""
MAX_EVALUATION_WORK = 60_000
"""Characters of the texts times the number of models of one evaluation, times the number of temperatures."""
MAX_FIT_SECONDS = 300
"""Seconds after which the fit of a map is ended."""
MAX_OTHER_MODELS = 4
"""Models besides those of the menu that visitors may load, where the host allows it."""
MAX_UPLOAD_MB = 1
"""Size of an uploaded file."""
UPLOAD_SECONDS = 600
"""Seconds after which an uploaded file is deleted. The page reads it at once."""
MAX_QUEUE = 64
"""Events that Gradio's queue holds."""

MAX_PROMPT = 4_000
"""Characters of a prompt."""
MAX_NEW_TOKENS = 512
DEFAULT_NEW_TOKENS = 256
DEFAULT_PATH_TOKENS = 128
"""Tokens of the path that the endpoint ``/trajectory`` returns by default."""
MAX_SAMPLES = 4
"""Texts generated side by side from one prompt."""
COMPARED_TEMPERATURES = (0.3, 0.5, 0.7, 1.0)
"""The temperatures of the texts that stand side by side below a run, and of the curves of BrierLM."""
MAX_COMPARED_SEEDS, DEFAULT_COMPARED_SEEDS = 4, 2
"""Texts at each of these temperatures."""
MAX_SWEEP_SEEDS, DEFAULT_SWEEP_SEEDS = 32, 8
MAX_COMPARED_TOKENS, DEFAULT_COMPARED_TOKENS = 256, 64
"""New tokens of each compared text."""
USEFUL_SHARE = 0.9
"""A temperature is useful if the model's card has at least this share of well-formed sentences for it."""
MAX_LINKED_BRANCHES = 20
"""Branches that a link repeats."""
TEMPERATURE_MIN, TEMPERATURE_MAX, TEMPERATURE_DEFAULT = 0.01, 2.0, 0.5
POOL_SIZE_MIN, POOL_SIZE_MAX, DEFAULT_POOL_SIZE = 8, 1_000, 200
"""Samples per step at most: the range of the slider and its default. The endpoints allow more, up to
``calm.generation.MAX_POOL``."""
FRESH_SAMPLES = 200
"""Samples of a pool or a cloud that a visitor draws at a step."""
SHOWN_CANDIDATES = 8
"""Candidates of a pool that the page lists; the others are only counted."""

MAX_TEXT = 4_000
"""Characters of a text to reconstruct."""
MAX_NOISE = 3.0
"""Standard deviation of the noise, in latent units."""
NOISE_LEVELS = [i / 10 for i in range(round(10 * MAX_NOISE) + 1)]
"""Standard deviations of the robustness curve."""
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

MAX_PASSAGES, DEFAULT_PASSAGES = 50, 8
"""Passages that a search in a corpus returns."""

MAX_PLACED_CHUNKS = 512
"""Chunks that one request places on the map."""
MAP_NEIGHBOURS = 8
"""Training chunks listed as the nearest ones to a point of the map."""

FIT_CHUNKS = 800
"""Training chunks at most that are fitted together with a visitor's own vectors, so that the map shows what surrounds
them."""
MAX_FIT_VECTORS = 4_000
"""Vectors of a visitor's own runs in one fit."""
MAX_VECTOR = 4_096
"""Numbers of a latent vector at most, of any model."""
MAX_COORDINATE = 1e6
"""The largest number of a latent vector. Those of models are below 100, and the squares of this one fit in float32."""


def lines() -> list[str]:
    """The limits in words, for the page and the documents."""
    texts = (
        f"A prompt or a text to reconstruct has at most {MAX_PROMPT:,} characters, texts to evaluate {MAX_EVALUATION:,}"
    )
    return [
        f"{texts}. Characters times models, and for the curve of BrierLM times its {len(COMPARED_TEMPERATURES)} "
        f"temperatures, are at most {MAX_EVALUATION_WORK:,}.",
        f"An uploaded file has at most {MAX_UPLOAD_MB} MB.",
        f"A run has at most {MAX_NEW_TOKENS} tokens, {MAX_SAMPLES} texts and {MAX_RUN_DRAWS:,} samples in all.",
        f"A map is fitted to at most {MAX_FIT_VECTORS:,} of your vectors within {MAX_FIT_SECONDS} seconds.",
        f"A visitor has at most {MAX_REQUESTS_PER_VISITOR} requests, {MAX_DRAWS_PER_VISITOR} draws and "
        f"{MAX_LOOKUPS_PER_VISITOR} lookups at once.",
        f"The page runs {MAX_CONCURRENT_RUNS} requests for texts, {MAX_MEASUREMENTS} measurements and {MAX_FITS} fits "
        f"at once, and {MAX_QUEUE} more requests wait.",
        "Stop ends texts, measurements and fits, and so does closing the page. Draws, lookups and reconstructions are "
        "short and run to their end.",
    ]
