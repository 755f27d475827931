"""The values that Python sends to JavaScript, or JavaScript to Python, as TypedDicts. Those of the tabs Race, Evaluate
and Learn are in ``measurement_types``, those that repeat a run in ``origins``.

Shapes: L latent dimensions, P points of a walk. A pair of numbers is a list, because JSON has no tuples.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # Pydantic reads these on Python 3.11

from ..limits import MAX_COORDINATE
from .origins import GenerationSettings, RunOrigin

Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
"""A number of a latent vector."""


class ErrorPayload(TypedDict):
    """The answer of a server function that failed."""

    error: str
    """One sentence."""


class MapUrls(TypedDict):
    """The two files of a map."""

    summary: str
    """Regions, density and the usual prediction error: small, shown first."""
    chunks: str
    """Texts and positions of the training chunks."""


class Config(TypedDict):
    """Numbers and addresses that both languages use, in the head of the page (``calm-config``)."""

    tabs: list[str]
    """Ids of the tabs, in order."""
    default_model: str
    """The model that the page opens with, a CALM."""
    plotly_url: str
    map_urls: dict[str, MapUrls]
    """The files of each model that has a map."""
    temperature_max: float
    max_new_tokens: int
    fresh_samples: int
    """Size of a pool or a cloud that is drawn on request."""
    walk_directions: int
    """Principal components that a walk through latent space offers."""
    parent_origin: str
    """The origin of the page that embeds this one and keeps its settings in its own address; empty if there is none."""


# Runs: the Generate tab and the map


class MapPosition(TypedDict):
    """The position of a vector on the map of its model."""

    plane: list[float]
    """[2], UMAP in the plane."""
    space: list[float]
    """[3], UMAP in space."""
    principal: list[float]
    """[3], coordinates along the first three principal components."""


class CandidatePayload(TypedDict):
    """One distinct chunk among the samples of a step."""

    text: str
    """An end-of-text token is shown as ∎; tokens may follow it in the same chunk."""
    count: int
    """Number of samples that decoded to it."""
    token_ids: list[int]
    chosen: bool
    probability: NotRequired[float]
    """Only for a token-by-token model: its softmax gives the exact probability, and there is no pool."""


class Pool(TypedDict):
    """The candidates of a step."""

    candidates: list[CandidatePayload]
    """The most frequent ones, with the chosen one among them."""
    other_counts: list[list[int]]
    """The rest, as pairs [count, number of candidates with this count]."""


class StepPayload(Pool):
    """One step of a run."""

    index: int
    text: str
    """The text that the step adds."""
    tokens: list[str]
    token_ids: list[int]
    seconds: float
    ended: bool
    """Whether the chunk holds the end of the text."""
    draws: int
    """Samples drawn and decoded."""
    chosen_by_hand: NotRequired[bool]
    """Whether the visitor chose the candidate."""
    distance: NotRequired[float]
    """Prediction error: Euclidean distance from the predicted vector to the encoded one. Only of a CALM."""
    predicted: NotRequired[MapPosition]
    """The position of the predicted vector. Only with a map, as the next two."""
    encoded: NotRequired[MapPosition]
    """The position of the vector to which the autoencoder encodes the chosen chunk."""
    frequency: NotRequired[int]
    """Count of the chunk in the texts of the map."""


class PromptChunk(TypedDict):
    text: str
    encoded: MapPosition


class StepReference(TypedDict):
    run_id: str
    step_index: int


class RunPayload(TypedDict):
    """One generated text, and all that the page shows of it."""

    run_id: str
    model: str
    prompt: str
    options: GenerationSettings
    """The settings of the last steps: those after the last branch, if there is one."""
    origin: RunOrigin
    steps: list[StepPayload]
    ended: bool
    """Whether the text has ended by itself."""
    parent: StepReference | None
    """The step of another run at which this one took another candidate."""
    prompt_chunks: list[PromptChunk]
    """Empty without a map."""
    finished: bool
    """Whether the run is complete."""
    status: str
    """HTML of the status line once the run is finished."""
    vectors: NotRequired[list[list[float]]]
    """[steps, L], the predicted vectors. Only once the run is finished; empty for a branch of a stopped run."""
    suggestions: NotRequired[list[str]]
    """Prompts in the language of the model, if it was not trained on that of the prompt."""
    samples: NotRequired[list["RunPayload"]]
    """The runs of the same prompt with the next seeds."""


class BranchRequest(TypedDict):
    """A request to continue a run from another candidate of one of its steps."""

    model: str
    prompt: str
    run_id: str
    origin: RunOrigin
    """The origin of the run that is continued."""
    steps: list[StepPayload]
    """Up to and with the step whose candidate is replaced."""
    vectors: list[list[Coordinate]]
    pool: Pool
    choice: int
    """Index of the new candidate in the pool."""


class StepRequest(TypedDict):
    """Identifies a step of a run: the prompt and the chunks before the step."""

    model: str
    prompt: str
    prefix_chunks: list[list[int]]
    """Token ids of the chunks between the prompt and this step."""
    chosen: NotRequired[list[int]]
    """Token ids of the chunk that the run chose at this step."""


class Cloud(TypedDict):
    """Fresh samples of the next vector at a step."""

    positions: list[MapPosition]
    texts: list[str]


class ChunksRequest(TypedDict):
    """Chunks to place on the map of a model."""

    model: str
    chunks: list[list[int]]
    """[n, K] token ids."""


class NearestRequest(ChunksRequest):
    """A request for the training chunks nearest to a chunk: the one at ``index`` of the map, else the first of
    ``chunks``."""

    index: int | None


class MapNeighbour(TypedDict):
    """A training chunk near a point of the map."""

    text: str
    index: int
    """The index of the chunk on the map."""
    count: int
    """Its count in the texts of the map."""
    distance: float
    """Euclidean, in latent space."""


class NearestChunks(TypedDict):
    """The training chunks nearest to a vector, the nearest first."""

    neighbours: list[MapNeighbour]


class OwnRun(TypedDict):
    """The vectors of one run of this visit, for a map of the visitor's own."""

    run_id: str
    prompt: str
    vectors: list[list[Coordinate]]
    """[steps, L], the predicted vectors."""
    chunks: list[list[int]]
    """[steps, K], token ids of the steps."""


class FittedRun(TypedDict):
    """Positions of one run on a map of the visitor's own."""

    predicted: list[list[float]]
    encoded: list[list[float]]
    prompt: list[list[float]]
    """The positions of the chunks of the prompt."""


class FittedMap(TypedDict):
    """A map fitted to training chunks together with the vectors of a visitor's runs."""

    dimensions: Literal[2, 3]
    texts: list[str]
    """The texts of the training chunks."""
    positions: list[list[float]]
    """The positions of the training chunks."""
    runs: dict[str, FittedRun]


class PlacedRun(TypedDict):
    """Positions of one run on the map of its model."""

    predicted: list[MapPosition]
    encoded: list[MapPosition]


class ModelMap(TypedDict):
    """The map of a model that the page did not have when it was opened."""

    model: str
    urls: MapUrls
    runs: dict[str, PlacedRun]
    """Runs of this visit, by their ids."""


# Reconstruction


class TokenPair(TypedDict):
    text: str
    decoded_text: str
    exact: bool


class ChunkPayload(TypedDict):
    text: str
    decoded_text: str
    tokens: list[TokenPair]
    token_ids: list[int]
    mean: list[float]
    """[L], of the posterior."""
    std: list[float]
    """[L], of the posterior."""
    exact: bool


class ReconstructionPayload(TypedDict):
    model: str
    chunks: list[ChunkPayload]


class ChunkSizeCurve(TypedDict):
    name: str
    points: list[list[float]]


class CurvePayload(TypedDict):
    """Share of tokens restored over noise, as pairs [standard deviation, share]."""

    reference: list[list[float]]
    """The curve of held-out stories."""
    measured: list[list[float]]
    """The curve of the visitor's text."""
    by_chunk_size: list[ChunkSizeCurve]
    """The curve of the visitor's text for one autoencoder of each K, where they are compared."""


class WalkRequest(TypedDict):
    """A request to move the vector of a chunk, along a principal component or towards another vector."""

    model: str
    mean: list[float]
    direction: int | None
    """Number of the principal component."""
    target: list[float] | None


class Neighbour(TypedDict):
    text: str
    distance: float


class WalkPoint(TypedDict):
    token_ids: list[int]
    tokens: list[str]
    text: str
    neighbours: list[Neighbour]
    """The nearest training chunks."""


class Walk(TypedDict):
    offsets: list[float]
    """[P], standard deviations along the component, or the fraction of the way to the target."""
    points: list[WalkPoint]
