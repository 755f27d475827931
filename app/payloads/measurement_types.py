"""The values of the tabs Race, Evaluate and Learn, as TypedDicts. ``types`` declares all others."""

from typing import TypedDict


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
    """BrierLM of a model with its 95 % interval, and floating-point operations per token."""

    model: str
    generation_flops: float
    training_flops: float
    score: float
    low: float
    high: float


class ScoresPayload(TypedDict):
    models: list[ModelCost]
    upper_bound: float
    """BrierLM of the true distribution of the texts."""


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
