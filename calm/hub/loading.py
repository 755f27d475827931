"""Loads a model of either kind, CALM or token by token, from a bundled name, a folder or the Hugging Face Hub."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from ..errors import CalmError
from ..modeling.autoencoder import Autoencoder
from ..modeling.calm import EnergyTransformer
from ..modeling.config import AutoencoderConfig, CalmConfig
from .language_model import LanguageModel

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
OFFICIAL_AUTOENCODER = "cccczshao/CALM-Autoencoder"
AUTOENCODER_PREFIX = "ae_model."
"""What the names of an autoencoder's weights begin with in a CALM."""


def bundled() -> list[str]:
    """Names of the models that come with the repository."""
    return sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json"))


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
) -> LanguageModel:
    """Loads a bundled model by its name, a local folder, or a Hub id (optionally at a ``revision``).

    The device is the GPU where there is one, else the CPU; the dtype is ``default_dtype(device)``, whatever the file
    holds. Pickled weights are read with ``weights_only=True`` and never otherwise. Raises CalmError for a name
    that leads nowhere, or a folder that is not a model of a supported kind.
    """
    name = str(name)
    folder = _folder(name, revision)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or default_dtype(device)
    config = _read_config(folder)
    weights = read_weights(folder)
    kind = _kind(config, weights)
    if kind == "LlamaForCausalLM":
        model: Any = _empty(LlamaForCausalLM, LlamaConfig.from_dict(config), dtype)
    else:
        if not config.get("autoencoder"):
            config["autoencoder"], weights = _find_autoencoder(folder, config, weights)
        model = _empty(EnergyTransformer, CalmConfig.from_dict(config), dtype)
    _fill(model, weights, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return LanguageModel(name if _is_hub_id(name) else folder.name, model.to(device).eval(), tokenizer)


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU that computes with it in hardware (compute capability 8.0, Ampere), else float32.

    float16 is no substitute on older cards: its largest number, 65,504, is too small for some hidden states.
    """
    has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if has_bfloat16 else torch.float32


def fetch(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model, fetched from the Hub if it is there, with the autoencoder that it names; what ``load``
    needs is on the disk then. Raises CalmError for a name that leads nowhere, or if it cannot be fetched."""
    folder = _folder(str(name), revision)
    config = _read_config(folder)
    if "patch_size" in config and not config.get("autoencoder"):
        _autoencoder_folder(folder, config)
    return folder


def shared_autoencoder(folder: Path) -> str | None:
    """The CALM in the folder beside whose autoencoder a CALM without its own has (``calm.saving.save``)."""
    config = _read_config(folder)
    return config.get("ae_path") if config.get("patch_size") and not config.get("autoencoder") else None


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a bundled model, of a folder or of a Hub id."""
    bundled_folder = CHECKPOINTS / name
    return AutoTokenizer.from_pretrained(bundled_folder if bundled_folder.is_dir() else name)


def load_autoencoder(name: str | Path, like: AutoencoderConfig | CalmConfig | None = None) -> Autoencoder:
    """An autoencoder on the CPU, in float32: by its own folder or Hub id, or that of a CALM. Raises CalmError for a
    name that leads nowhere, or to a token-by-token model, which has none, and for another K or other latent vectors
    than those of ``like``."""
    folder = _folder(str(name), None)
    config = _read_config(folder)
    if "latent_size" in config and "noise_size" not in config:  # what has a head as well is a CALM
        autoencoder = Autoencoder.from_pretrained(folder)
    else:
        autoencoder = load(name, "cpu", torch.float32).calm.ae_model
    k, size = autoencoder.config.patch_size, autoencoder.config.latent_size
    if like is not None and (k, size) != (like.patch_size, like.latent_size):
        raise CalmError(
            f"The autoencoder {name} has K = {k} and vectors of {size} numbers; "
            f"needed are K = {like.patch_size} and {like.latent_size} numbers."
        )
    return autoencoder


def _folder(name: str, revision: str | None) -> Path:
    for folder in (CHECKPOINTS / name, Path(name)):
        if (folder / "config.json").is_file():
            return folder.resolve()
    if Path(name).exists():
        raise CalmError(f"The folder {name} holds no config.json, so it is not a model.")
    if not _is_hub_id(name):
        raise CalmError(f"There is no model {name!r}: name a folder, a Hub id, or one of {', '.join(bundled())}.")
    return _download(name, revision)


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/")) and not Path(name).exists()


def _download(name: str, revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.bin", "*.model"]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CalmError(f"The model {name!r} could not be fetched from the Hugging Face Hub.") from error
    return Path(found)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CalmError(f"The config.json of {folder.name} is not valid JSON.") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, by name; safetensors are preferred to pickles, single files and shards read alike."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{suffix}.index.json"
        if index.is_file():
            files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        elif (folder / f"{stem}.{suffix}").is_file():
            files = [f"{stem}.{suffix}"]
        else:
            continue
        weights: dict[str, Tensor] = {}
        for file in files:
            if suffix == "safetensors":
                weights.update(load_file(folder / file))
            else:
                weights.update(torch.load(folder / file, map_location="cpu", weights_only=True))
        return weights
    raise CalmError(f"The folder {folder.name} holds no weights (model.safetensors or pytorch_model.bin).")


def _kind(config: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """The class of a checkpoint, by ``architectures``, else by its weights' names; ``model_type`` is unreliable."""
    kind = next(iter(config.get("architectures") or []), "")
    if kind not in ("EnergyTransformer", "LlamaForCausalLM"):
        if any(name.startswith("generative_head.noise_embd") for name in weights) and kind == "":
            kind = "EnergyTransformer"
        elif "lm_head.weight" in weights and kind == "":
            kind = "LlamaForCausalLM"
        else:
            raise CalmError(
                f"Models of the kind {kind or 'unknown'!r} cannot be run here; "
                "EnergyTransformer (CALM) and LlamaForCausalLM (token by token) can."
            )
    return kind


def _find_autoencoder(folder: Path, config: dict, weights: dict[str, Tensor]) -> tuple[dict, dict[str, Tensor]]:
    """The autoencoder's configuration, which official folders keep beside the model, and weights that include it; a
    CALM beside it may lend its own."""
    found = _autoencoder_folder(folder, config)
    own = _read_config(found)
    if not any(name.startswith(AUTOENCODER_PREFIX) for name in weights):
        lent = read_weights(found)
        if "autoencoder" in own:
            lent = {name: tensor for name, tensor in lent.items() if name.startswith(AUTOENCODER_PREFIX)}
        else:
            lent = {AUTOENCODER_PREFIX + name: tensor for name, tensor in lent.items()}
        weights = weights | lent
    return own.get("autoencoder", own), weights


def _autoencoder_folder(folder: Path, config: dict) -> Path:
    path = config.get("ae_path") or OFFICIAL_AUTOENCODER
    places = [Path(path), folder / path, folder.parent / Path(path).name]
    found = next((place for place in places if (place / "config.json").is_file()), None)
    return found or _download(path if _is_hub_id(path) else OFFICIAL_AUTOENCODER)


def _empty(kind: type, config: Any, dtype: torch.dtype) -> Any:
    """A model without the cost of drawing initial weights that are about to be replaced."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = kind(config).to(dtype)
    model.tie_weights()
    return model


def _fill(model: torch.nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    result = model.load_state_dict(weights, strict=False)
    filled = {p.data_ptr() for name, p in model.named_parameters(remove_duplicate=False) if name in weights}
    missing = [name for name, p in model.named_parameters() if p.data_ptr() not in filled]
    if missing or result.unexpected_keys:
        odd = (missing or result.unexpected_keys)[0]
        raise CalmError(f"The weights of {folder.name} do not fit its configuration ({odd}).")
