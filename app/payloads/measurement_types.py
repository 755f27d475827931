"""The values of the tabs Race, Evaluate and Learn, as TypedDicts. ``types`` declares all others."""

from typing import NotRequired, TypedDict


class RacerPayload(TypedDict):
    model: str
    is_calm: bool
    backbone_layers: int
    backbone_width: int
    chunk_size: int
    texts: list[str]
    """The text that each step added."""
    seconds: list[float]
    """The model's own time after each step."""
    first_text_seconds: float | None
    """The model's own time until its first visible text; None before."""
    draws_per_step: float
    flops_per_token: float
    finished: bool


class RacePayload(TypedDict):
    race_id: int
    prompt: str
    racers: list[RacerPayload]


class ModelCost(TypedDict):
    """BrierLM of a model with the 95 % interval of its gap to the true distribution, and FLOPs per token."""

    model: str
    generation_flops: float
    training_flops: float
    score: float
    low: float
    high: float


class ScoresPayload(TypedDict):
    models: list[ModelCost]
    upper_bound: float
    """Expected BrierLM of the true distribution."""


class BrierPoint(TypedDict):
    """BrierLM at a temperature with its 95 % interval."""

    temperature: float
    score: float
    low: float
    high: float


class BrierCurve(TypedDict):
    model: str
    points: list[BrierPoint]


class BrierCurvePayload(TypedDict):
    curves: list[BrierCurve]


class Interval(TypedDict):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class HeadPoint(TypedDict):
    """A generative head with a number of evaluations of its network for each draw."""

    evaluations: int
    draws_per_second: float
    brier_lm: Interval
    well_formed: Interval
    """Share of well-formed sentences in stories generated at T = 1."""
    well_formed_tempered: NotRequired[Interval]
    """The same at T = 0.5."""


class HeadTraining(TypedDict):
    """The run that trained a head."""

    step: int
    tokens: int
    cpu_seconds: float


class HeadFigures(TypedDict):
    name: str
    """``energy``, ``diffusion`` or ``flow``, or the name of the reference model."""
    points: list[HeadPoint]
    training: NotRequired[HeadTraining]


class PlaceChunk(TypedDict):
    text: str
    probability: float
    """Its probability in the language; 0 below 0.0001."""


class HeadDraws(TypedDict):
    """The draws of a head at a place."""

    name: str
    points: list[list[float]]
    """The first two principal components of each draw."""
    chunks: list[int]
    """The chunk that each draw decodes to: its index in the chunks of the place."""


class Place(TypedDict):
    """A chunk boundary of a held-out story, with the draws of each head."""

    context: str
    chunks: list[PlaceChunk]
    """All chunks that are likely or were drawn; the likely ones first."""
    likely: list[list[float]]
    """The first two principal components of the likely chunks."""
    draws: list[HeadDraws]


class HeadsPayload(TypedDict):
    heads: list[HeadFigures]
    places: list[Place]


class TourStep(TypedDict):
    """One step of the guided tour."""

    name: str
    """The name of its action in ``assets/js``."""
    title: str
    tab: str
    section: str
    """The section of the paper."""
    text: str
    action: str
    """Label of the button that performs the action."""
    outcome: str
    """The result of the action, as the visitor sees it."""
