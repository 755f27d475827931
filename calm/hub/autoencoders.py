"""Finds the autoencoder of a CALM: in its own weights, in a folder beside it, or on the Hugging Face Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CalmError
from ..modeling.config import AutoencoderConfig, CalmConfig
from .folders import OFFICIAL_AUTOENCODER, Report, download, find_folder, is_hub_id, read_config
from .weights import StoredTensor, list_weights

PREFIX = "ae_model."
"""Prefix of the autoencoder's weights in a CALM."""


def find_autoencoder(
    folder: Path, config: dict[str, Any], weights: dict[str, StoredTensor], chosen: str | Path | None = None
) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """The configuration of a CALM's autoencoder, and ``weights`` with those of the autoencoder.

    ``chosen`` is a folder or Hub id of an autoencoder or a CALM; its autoencoder replaces the model's own. Otherwise
    the autoencoder is the one in ``weights``, or that of the folder or Hub id in ``ae_path``. Raises CalmError if it
    cannot be found, or if its K or latent size differs from the model's.
    """
    if chosen is None and (own := config.get("autoencoder")):
        return own, weights
    own_weights = chosen is None and holds_autoencoder(weights)
    source = find_folder(str(chosen)) if chosen is not None else _local_folder(folder, config)
    if source is None and own_weights:
        return config_of_weights(config, weights), weights
    source = _owner(source or _download(config))
    found = read_config(source)
    if "num_hidden_layers" in found:  # a CALM: it also has a backbone
        found = found.get("autoencoder") or config_of_weights(found, list_weights(source))
    given, needed = ((c.get("patch_size"), c.get("latent_size")) for c in (found, config))
    if given != needed:
        raise CalmError(_wrong_sizes(chosen or source.name, given, needed))
    if own_weights:
        return found, weights
    rest = {name: tensor for name, tensor in weights.items() if not name.startswith(PREFIX)}
    return found, rest | _autoencoder_weights(source)


def fetch_autoencoder(folder: Path, config: dict[str, Any], report: Report | None = None) -> None:
    """Downloads the autoencoder of the CALM in a folder, unless it is here already. Raises CalmError if that fails."""
    if not config.get("autoencoder") and not holds_autoencoder(list_weights(folder)):
        _ = _local_folder(folder, config) or _download(config, report)


def holds_autoencoder(weights: Mapping[str, StoredTensor]) -> bool:
    """Whether the weights of a CALM hold those of its autoencoder."""
    return any(name.startswith(PREFIX) for name in weights)


def config_of_weights(config: dict[str, Any], weights: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """The fields of the autoencoder in a CALM's weights, from their shapes; all other fields have their defaults.

    Raises CalmError if a weight that tells a size is missing or has another number of dimensions.
    """
    try:
        vocabulary, hidden = weights[f"{PREFIX}encoder.embed_tokens.weight"].shape
        layer = f"{PREFIX}encoder.encoder_layers.0.mlp.gate_proj"
        return {
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "intermediate_size": weights[f"{layer}.weight"].shape[0],
            "latent_size": weights[f"{PREFIX}encoder.hidden_to_latent.weight"].shape[0] // 2,
            "patch_size": weights[f"{PREFIX}encoder.squeeze_layer.weight"].shape[1] // hidden,
            "num_encoder_layers": _layers(weights, "encoder"),
            "num_decoder_layers": _layers(weights, "decoder"),
            "mlp_bias": f"{layer}.bias" in weights,
            **{field: config[field] for field in ("pad_token_id", "bos_token_id", "eos_token_id") if field in config},
        }
    except KeyError as error:
        raise CalmError(f"The weights of the autoencoder are not complete ({error.args[0]} is missing).") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CalmError("The weights of the autoencoder have shapes that no autoencoder has.") from error


def _layers(weights: Mapping[str, StoredTensor], part: str) -> int:
    prefix = f"{PREFIX}{part}.{part}_layers."
    return len({name.removeprefix(prefix).partition(".")[0] for name in weights if name.startswith(prefix)})


def _local_folder(folder: Path, config: dict[str, Any]) -> Path | None:
    """The folder that ``ae_path`` names, below or beside the model's folder; None if it is not on this machine."""
    if not (path := config.get("ae_path")):
        return None
    candidates = [Path(path), folder / path, folder / Path(path).name, folder.parent / Path(path).name]
    others = (candidate for candidate in candidates if candidate.resolve() != folder.resolve())
    return next((candidate for candidate in others if (candidate / "config.json").is_file()), None)


def _download(config: dict[str, Any], report: Report | None = None) -> Path:
    path = str(config.get("ae_path") or "")
    return download(path if is_hub_id(path) else OFFICIAL_AUTOENCODER, report=report)


def _owner(source: Path) -> Path:
    """The folder of the autoencoder of ``source``: itself, or the neighbour whose autoencoder a CALM shares."""
    config = read_config(source)
    shares = "num_hidden_layers" in config and not config.get("autoencoder")
    return (_local_folder(source, config) if shares else None) or source


def _autoencoder_weights(source: Path) -> dict[str, StoredTensor]:
    """The weights of an autoencoder under their names in a CALM, from the folder of an autoencoder or of a CALM."""
    weights = list_weights(source)
    if "num_hidden_layers" not in read_config(source):
        return {PREFIX + name: tensor for name, tensor in weights.items()}
    return {name: tensor for name, tensor in weights.items() if name.startswith(PREFIX)}


def check_autoencoder(
    name: str | Path, autoencoder: AutoencoderConfig, config: CalmConfig | AutoencoderConfig, tokens: int
) -> None:
    """Raises CalmError unless an autoencoder has the K and the latent size of a model, reads all ``tokens`` of the
    tokenizer, and restores none that the model cannot read. ``name`` is that of the autoencoder."""
    given, needed = ((c.patch_size, c.latent_size) for c in (autoencoder, config))
    if given != needed:
        raise CalmError(_wrong_sizes(name, given, needed))
    if not tokens <= autoencoder.vocab_size <= config.vocab_size:
        raise CalmError(
            f"The autoencoder {name} has a vocabulary of {autoencoder.vocab_size:,} tokens, the model one of "
            f"{config.vocab_size:,} and the tokenizer one of {tokens:,}; use those that belong together."
        )


def _wrong_sizes(name: str | Path, given: tuple[Any, Any], needed: tuple[Any, Any]) -> str:
    """The message for an autoencoder whose K and latent size are not the ones that are needed."""
    return (
        f"The autoencoder {name} has K = {given[0]} and vectors of {given[1]} numbers; "
        f"needed are K = {needed[0]} and {needed[1]} numbers."
    )
