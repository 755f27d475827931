"""Checks of a recipe's settings, before anything is loaded. Each failure is one sentence that names the setting."""

import difflib
import inspect
import math
import typing
from collections.abc import Iterable
from dataclasses import fields
from itertools import islice
from typing import Any, TypeVar

from transformers import LlamaConfig

from ..data.documents import read_documents
from ..errors import CalmError
from ..modeling.calm import model_class
from ..modeling.config import AutoencoderConfig, CalmConfig
from .settings import AutoencoderSettings, CalmSettings, LanguageModelSettings, LoopSettings, TokenizerSettings

S = TypeVar("S", bound=TokenizerSettings | LoopSettings)

CHOICES = {"schedule": ("constant", "cosine", "linear"), "mixed_precision": ("no", "bf16", "fp16", "auto")}
AT_LEAST = {
    "steps": 1, "batch_size": 1, "accumulation_steps": 1, "log_every": 1, "validate_every": 1, "save_every": 1,
    "valid_texts": 1, "row_tokens": 2, "row_stride": 1, "vocab_size": 300, "characters": 0, "seed": 0,
    "warmup_steps": 0, "primer_steps": 0, "stream_workers": 0, "continuations": 0, "head_positions": 0,
    "posterior_samples": 0,
    "weight_decay": 0, "muon_learning_rate": 0, "max_minutes": 0, "noise": 0, "token_loss_weight": 0,
    "token_loss_until": 0,
}  # fmt: skip
POSITIVE = ("learning_rate", "gradient_clip")
LARGEST_SEED = 2**32 - 1  # of NumPy's global generator
SIZES = ("num_", "hidden_", "intermediate_", "patch_", "latent_", "noise_", "max_")
SHARES = ("partial_chunks", "corruption", "head_warmup_from", "joint_from", "beta2", "ema_decay")
NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}


def parse(kind: type[S], values: dict[str, Any]) -> S:
    """A settings dataclass from a recipe's values.

    Raises CalmError for an unknown setting (with the nearest known one), a value of the wrong type, and a value that
    no run can have.
    """
    types = typing.get_type_hints(kind)
    _check_names(values, [field.name for field in fields(kind)], "setting")
    for name, value in values.items():
        _check_type(name, value, types[name])
    if not values.get("out"):
        raise CalmError("The setting 'out' is missing; name the folder that the run writes to.")
    settings = kind(**values)
    _check_ranges(settings)
    if isinstance(settings, AutoencoderSettings):
        _check_autoencoder(settings)
    elif isinstance(settings, LanguageModelSettings):
        _check_language_model(settings)
    return settings


def first_documents(sources: Iterable[str], count: int, what: str) -> list[str]:
    """The first ``count`` documents of several sources together. Raises CalmError if they have no text at all."""
    documents = list(islice((text for source in sources for text in read_documents(source)), count))
    if not any(text.strip() for text in documents):
        raise CalmError(f"The setting {what!r} names no text; add a source such as 'storyland:10000000:40'.")
    return documents


def _check_names(values: dict[str, Any], known: Iterable[str], noun: str) -> None:
    known = sorted(known)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            raise CalmError(f"Unknown {noun} {name!r}; {hint}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value has a type such as ``int``, ``list[str]`` or ``dict[str, list[str]]``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _type_name(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    inner = arguments[-1] if arguments else None
    plurals: dict[Any, str] = {str: "texts", int: "whole numbers", float: "numbers"}
    plural = plurals.get(inner)
    if typing.get_origin(inner) is list:
        plural = "lists of texts"
    return f"{NAMES[origin]} of {plural}" if plural else NAMES[origin]


def _check_type(name: str, value: Any, kind: Any) -> None:
    if not _fits(value, kind):
        raise CalmError(f"The setting {name!r} must be {_type_name(kind)}, not {value!r}.")


def _check_ranges(settings: Any) -> None:
    for name, choices in CHOICES.items():
        if getattr(settings, name, choices[0]) not in choices:
            allowed = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise CalmError(f"The setting {name!r} must be {allowed}, not {getattr(settings, name)!r}.")
    for name, least in AT_LEAST.items():
        if not getattr(settings, name, least) >= least:
            raise CalmError(f"The setting {name!r} must be at least {least}, not {getattr(settings, name)}.")
    for name in POSITIVE:
        if not 0 < getattr(settings, name, 1) < math.inf:
            raise CalmError(f"The setting {name!r} must be above 0 and finite, not {getattr(settings, name)}.")
    if getattr(settings, "seed", 0) > LARGEST_SEED:
        raise CalmError(f"The setting 'seed' must be at most {LARGEST_SEED}, not {settings.seed}.")
    for name in SHARES:
        if not 0 <= getattr(settings, name, 0) <= 1:
            raise CalmError(f"The setting {name!r} must be between 0 and 1, not {getattr(settings, name)}.")


def _check_model(values: dict[str, Any], config: Any) -> None:
    """Fields of ``[model]`` against a default configuration: names, types, and heads that divide the width."""
    known = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    _check_names(values, {*known, *inspect.signature(type(config)).parameters}, "field of [model]")
    for name, value in values.items():
        kind = _field_type(config, name, known.get(name))
        if kind in NAMES:
            _check_type(f"model.{name}", value, kind)
        if kind is int and name.startswith(SIZES) and value < 1:
            raise CalmError(f"The setting 'model.{name}' must be at least 1, not {value}.")
    fields = {**known, **values}
    if "num_attention_heads" not in known:
        return
    width, heads = fields["hidden_size"], fields["num_attention_heads"]
    groups = values.get("num_key_value_heads") or heads
    if width % heads or (width // heads) % 2:
        raise CalmError(
            f"A width of {width} cannot be split over {heads} attention heads; "
            f"model.hidden_size must be a multiple of twice model.num_attention_heads."
        )
    if heads % groups:
        raise CalmError(f"{heads} attention heads cannot share {groups} key/value heads; choose a divisor of {heads}.")


def _field_type(config: Any, name: str, default: Any) -> Any:
    """The type of a field: that of its default, or the first one of its annotation where the default is None."""
    if default is not None:
        return type(default)
    annotation = inspect.signature(type(config)).parameters[name].annotation
    return next(iter(typing.get_args(annotation)), None)


def _check_head(config: CalmConfig) -> None:
    model_class(config.head)
    if config.head == "energy" and config.num_samples < 2:
        raise CalmError("The energy score compares at least 2 samples of the head; set model.num_samples to 2 or more.")
    if not 0 < config.beta < 2:
        raise CalmError(f"The setting 'model.beta' must be between 0 and 2, not {config.beta}.")


def _check_autoencoder(settings: AutoencoderSettings) -> None:
    _check_model(settings.model, AutoencoderConfig())
    for name, sources in settings.sources.items():
        if not sources:
            raise CalmError(f"The setting 'sources.{name}' names no text.")
    if not settings.sources:
        raise CalmError("The setting 'sources' is missing; name the token files and their sources.")
    if settings.muon_learning_rate:
        raise CalmError("Muon trains no matrix of an autoencoder; set 'muon_learning_rate' to 0.")
    if settings.separate_codes and (settings.init_from or settings.distil_from):
        raise CalmError("'separate_codes' needs random initial weights; leave out 'init_from' and 'distil_from'.")
    if settings.partial_chunks and settings.model.get("patch_size") == 1:
        raise CalmError("A chunk of one token cannot end early; set 'partial_chunks' to 0.")
    if not settings.valid:
        raise CalmError("The setting 'valid' is missing; name the validation files and their sources.")
    _check_names(settings.shares, settings.sources, "token file in 'shares'")
    shares = [settings.shares.get(name, 1.0) for name in settings.sources]
    if not all(0 <= share < math.inf for share in shares) or not sum(shares):
        raise CalmError("Each of the 'shares' must be a number of at least 0, and one of them must be above 0.")


def _check_language_model(settings: LanguageModelSettings) -> None:
    _check_model(settings.model, CalmConfig() if isinstance(settings, CalmSettings) else LlamaConfig())
    for name, needed in (("sources", True), ("valid", True), ("primer", settings.primer_steps > 0)):
        if needed and not getattr(settings, name):
            raise CalmError(f"The setting {name!r} is missing; name at least one source of text.")
    if isinstance(settings, CalmSettings):
        _check_head(CalmConfig(**settings.model))
        if settings.head_positions and (settings.continuations < 2 or settings.model.get("head", "energy") != "energy"):
            raise CalmError(
                "'head_positions' needs an energy head and 'continuations' of 2 or more; set it to 0 otherwise."
            )
        if settings.coupled_noise and (not settings.continuations or settings.model.get("head", "energy") != "energy"):
            raise CalmError("'coupled_noise' needs an energy head and 'continuations' of 1 or more.")
        if settings.coupled_noise and settings.head_positions:
            raise CalmError("'coupled_noise' uses all positions; set 'head_positions' to 0.")
        if settings.coupled_noise and settings.primer_steps > settings.head_warmup_from * settings.steps:
            raise CalmError(
                "The primer has no targets for 'coupled_noise'; "
                "set 'head_warmup_from' so that the head starts after the primer."
            )
        if settings.init_from and settings.init_backbone_from:
            raise CalmError("A run starts from 'init_from' or from 'init_backbone_from', not from both.")
        if settings.new_head and not settings.init_from:
            raise CalmError("'new_head' replaces the head of 'init_from'; set that, or 'new_head' to false.")
        if settings.distil_from and not settings.head_warmup_from:
            raise CalmError("'distil_from' has an effect up to 'head_warmup_from' alone; set that above 0.")
        if settings.head_warmup_from and not (settings.token_loss_weight or settings.distil_from):
            raise CalmError(
                "Up to 'head_warmup_from' the backbone learns alone and needs a loss: "
                "set 'token_loss_weight' or 'distil_from', or 'head_warmup_from' to 0."
            )
        if 0 < settings.joint_from < settings.head_warmup_from:
            raise CalmError(
                "Joint training cannot start before the head learns; set 'joint_from' to 'head_warmup_from' or more."
            )
    if settings.init_layers and not settings.init_from:
        raise CalmError("'init_layers' chooses layers of 'init_from'; set that, or leave out 'init_layers'.")
    if settings.stream_workers and settings.targets_after:
        raise CalmError("'targets_after' needs a token file; set 'stream_workers' to 0.")
    if settings.continuations and not settings.stream_workers:
        raise CalmError("The chunks of 'continuations' are drawn during training; set 'stream_workers' to 1 or more.")
