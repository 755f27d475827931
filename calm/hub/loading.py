"""Loads a CALM, a token-by-token model or an autoencoder: a bundled one, a folder, or one of the Hugging Face Hub."""

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ..errors import CalmError, is_out_of_memory, reason_of
from ..modeling.autoencoder import Autoencoder
from ..modeling.calm import MODELS, model_class
from ..modeling.config import AutoencoderConfig, CalmConfig
from .autoencoders import check_autoencoder, fetch_autoencoder, find_autoencoder
from .folders import CHECKPOINTS, Report, find_folder, is_hub_id, read_config
from .language_model import LanguageModel
from .memory import check_fits
from .text_format import BEGIN_OF_TEXT, detect_format
from .weights import StoredTensor, copy_weights, list_weights

TOKEN_BY_TOKEN, AUTOENCODER = "tokens", "autoencoder"

Reserve = Callable[[int, torch.device], None]
"""A function of the bytes of a model's weights and their device, called before the weights take memory. It may free
memory, or raise an error."""


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    autoencoder: str | Path | None = None,
    reserve: Reserve | None = None,
) -> LanguageModel:
    """Loads a bundled model by its name, a local folder, or a Hub id (optionally at a ``revision``). An autoencoder
    alone reconstructs texts and generates none.

    The default device is the GPU if there is one, else the CPU. The default dtype is ``default_dtype(device)``, for any
    dtype of the files. ``autoencoder`` names an autoencoder, or a CALM whose autoencoder replaces that of the loaded
    CALM; it must have been trained on the same latent vectors. ``reserve`` makes room for the weights. Loading needs
    little memory beside the model itself (docs/performance.md). Python code in a model folder never runs: pickled
    weights are read with ``weights_only=True``. Raises CalmError for an unknown name or device, for a folder whose
    files are missing, damaged, or of an unsupported kind of model, for an autoencoder of another K, latent size or
    vocabulary, for an ``autoencoder`` of another tokenizer, and for a model that is larger than the free memory or than
    ``CALM_MEMORY``.
    """
    name = str(name)
    folder = find_folder(name, revision)
    device = _device(device)
    dtype = dtype or default_dtype(device)
    config = read_config(folder)
    weights = list_weights(folder)
    kind = AUTOENCODER if _is_autoencoder(config) else _kind(config, weights)
    if kind == AUTOENCODER:
        if autoencoder is not None:
            raise CalmError(f"{folder.name} is an autoencoder itself; load it without another one.")
        model: Any = _build(Autoencoder, AutoencoderConfig, config, weights, folder, device, dtype, reserve)
    elif kind == TOKEN_BY_TOKEN:
        if autoencoder is not None:
            raise CalmError(f"{folder.name} works token by token and has no autoencoder; load it without one.")
        if "lm_head.weight" not in weights:
            config.setdefault("tie_word_embeddings", True)
        model = _build(LlamaForCausalLM, LlamaConfig, config, weights, folder, device, dtype, reserve)
    else:
        config["autoencoder"], weights = find_autoencoder(folder, config, weights, autoencoder)
        model = _build(model_class(kind), CalmConfig, config, weights, folder, device, dtype, reserve)
    tokenizer = _read_tokenizer(folder)
    if len(tokenizer) > model.config.vocab_size:
        raise CalmError(
            f"The tokenizer of {folder.name} has {len(tokenizer):,} tokens and the model reads "
            f"{model.config.vocab_size:,}; use the tokenizer that the model was trained with."
        )
    text_format = detect_format(config, tokenizer)
    if kind not in (TOKEN_BY_TOKEN, AUTOENCODER):
        own = f"of {folder.name}" if autoencoder is None else str(autoencoder)
        check_autoencoder(own, model.ae_model.config, model.config, len(tokenizer))
        if autoencoder is not None:
            check_tokenizer(autoencoder, tokenizer)
        # For ``save``, whose folders are not in the official format.
        model.config.text_start = BEGIN_OF_TEXT if text_format.single_start else None
    return LanguageModel(name if is_hub_id(name) else folder.name, model, tokenizer, text_format)


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU that computes with it in hardware (compute capability 8.0, Ampere), else float32.

    float16 is no substitute on older cards: its largest number, 65,504, is too small for some hidden states.
    """
    has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if has_bfloat16 else torch.float32


def fetch(name: str | Path, revision: str | None = None, report: Report | None = None) -> Path:
    """Downloads what ``load`` needs, the autoencoder included, and returns the model's folder.

    ``report`` is called with the progress of each download. Raises CalmError for an unknown name and for a failed
    download, and what ``report`` raises.
    """
    folder = find_folder(str(name), revision, report)
    config = read_config(folder)
    if "patch_size" in config and "num_hidden_layers" in config:  # an autoencoder has no backbone
        fetch_autoencoder(folder, config, report)
    return folder


def shared_autoencoder(folder: Path) -> str | None:
    """The name of the CALM in a neighbouring folder whose autoencoder a CALM shares; None if it has its own, and for a
    folder in the official format."""
    config = read_config(folder)
    is_official = config.get("model_type") != CalmConfig.model_type  # its ``ae_path`` is a path or a Hub id
    shares = config.get("patch_size") and not config.get("autoencoder") and not is_official
    return config.get("ae_path") if shares else None


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a bundled model, a folder or a Hub id. Raises CalmError if it cannot be read."""
    folder = CHECKPOINTS / name
    return _read_tokenizer(folder if folder.is_dir() else name)


def check_tokenizer(name: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises CalmError if a model was trained with another tokenizer: its weights would read other tokens under the
    same ids. Compares the tokens of the ids that both vocabularies have. Does nothing for a folder without
    tokenizer.json."""
    folder = find_folder(str(name))
    if not (folder / "tokenizer.json").is_file():
        return
    tokens = {i: token for token, i in tokenizer.get_vocab().items()}
    if any(tokens.get(i, token) != token for token, i in _read_tokenizer(folder).get_vocab().items()):
        raise CalmError(f"{name} was trained with another tokenizer; use models of one tokenizer together.")


def load_autoencoder(name: str | Path) -> Autoencoder:
    """An autoencoder on the CPU in float32, from its own folder or Hub id or from that of a CALM.

    Raises CalmError if it cannot be loaded.
    """
    folder = find_folder(str(name))
    config = read_config(folder)
    if _is_autoencoder(config):
        weights, device = list_weights(folder), torch.device("cpu")
        return _build(Autoencoder, AutoencoderConfig, config, weights, folder, device, torch.float32)
    return load(name, "cpu", torch.float32).calm.ae_model


def _device(device: str | torch.device | None) -> torch.device:
    """Raises CalmError if the device does not exist here, or if its memory is full."""
    try:
        chosen = torch.device(device) if device else default_device()
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # PyTorch raises either for a missing device
        if is_out_of_memory(error):
            raise CalmError(
                f"The memory of the device {str(device or 'cuda')!r} is full; end other programs on it, or choose cpu."
            ) from error
        raise CalmError(f"There is no device {str(device)!r} on this machine; cpu always works.") from error
    return chosen


def _is_autoencoder(config: dict[str, Any]) -> bool:
    """Whether a configuration is that of an autoencoder alone: a CALM also has a backbone."""
    return "latent_size" in config and "num_hidden_layers" not in config


def _kind(config: dict[str, Any], weights: Mapping[str, StoredTensor]) -> str:
    """The head of a CALM checkpoint, or ``TOKEN_BY_TOKEN``: by its ``architectures``, or without them by the names of
    its weights. Official files hold an unreliable ``model_type``. Raises CalmError for another kind of model."""
    kinds = {"LlamaForCausalLM": TOKEN_BY_TOKEN, **{model.__name__: head for head, model in MODELS.items()}}
    architectures = config.get("architectures")
    architecture = str(next(iter(architectures), "")) if isinstance(architectures, list) else ""
    kind = kinds.get(architecture) if architecture else _kind_by_names(weights)
    if kind is None:
        raise CalmError(f"Models of the kind {architecture or 'unknown'!r} cannot be run here; {', '.join(kinds)} can.")
    return kind


def _kind_by_names(weights: Mapping[str, StoredTensor]) -> str | None:
    head = "generative_head."
    if f"{head}noise_embd.weight" in weights or "mlp_generator.noise_embd.weight" in weights:
        return "energy"
    first, last = (weights.get(f"{head}net.{layer}.weight") for layer in ("input_proj", "final_layer.linear"))
    if first is not None and last is not None:  # a diffusion head also predicts the variance
        return "flow" if last.shape[:1] == first.shape[1:] else "diffusion"
    return TOKEN_BY_TOKEN if "model.embed_tokens.weight" in weights else None


def _build(
    model_class: type,
    config_class: type,
    config: dict,
    weights: Mapping[str, StoredTensor],
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    reserve: Reserve | None = None,
) -> Any:
    """A model in evaluation mode with the weights in ``dtype`` on ``device``.

    The model is built without memory for its parameters. Then each tensor is copied from its file to its place, so
    that no second copy of the weights exists at any time. Raises CalmError if the configuration is invalid or does not
    fit the weights.
    """
    from transformers.initialization import no_init_weights

    try:
        with torch.device("meta"), no_init_weights():
            model = model_class(config_class.from_dict(config)).to(dtype)  # type: ignore[attr-defined]
    except CalmError:
        raise
    except Exception as error:  # transformers and PyTorch raise a dozen kinds for invalid values
        reason = reason_of(error).rstrip(".")
        raise CalmError(f"{folder.name}/config.json does not describe a model ({reason}).") from error
    model.tie_weights()
    _check_names_and_shapes(model, weights, folder)
    needed = sum(parameter.nbytes for parameter in model.parameters())
    if reserve is not None:
        reserve(needed, device)
    check_fits(folder.name, needed, device)
    _allocate(model, device)
    copy_weights(weights, dict(model.named_parameters(remove_duplicate=False)))
    return model.eval()


def _check_names_and_shapes(model: torch.nn.Module, weights: Mapping[str, StoredTensor], folder: Path) -> None:
    """Raises CalmError unless the weights are exactly those of the model. Tied parameters need one of their names."""
    own = dict(model.named_parameters(remove_duplicate=False))
    shapes = (
        f"{name} has the shape {list(tensor.shape)} instead of {list(own[name].shape)}"
        for name, tensor in weights.items()
        if name in own and own[name].shape != tensor.shape
    )
    filled = {id(own[name]) for name in weights if name in own}
    missing = (f"{name} is missing" for name, parameter in model.named_parameters() if id(parameter) not in filled)
    unexpected = (f"{name} is not part of it" for name in weights if name not in own)
    if problem := next(chain(shapes, missing, unexpected), None):
        raise CalmError(f"The weights of {folder.name} do not fit its configuration ({problem}).")


def _allocate(model: torch.nn.Module, device: torch.device) -> None:
    """Moves a model from the meta device: parameters get memory without values, and tied ones stay tied.

    The only buffers are the frequencies of rotary embeddings, which are computed from the configuration in float32.
    """
    allocated: dict[int, torch.nn.Parameter] = {}
    originals = list(model.parameters())  # they live on, so that their identities stay unique
    for parameter in originals:
        allocated[id(parameter)] = torch.nn.Parameter(torch.empty_like(parameter, device=device), requires_grad=False)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            setattr(module, name, allocated[id(parameter)].requires_grad_(parameter.requires_grad))
        for name, child in module.named_children():
            if isinstance(child, LlamaRotaryEmbedding):
                setattr(module, name, LlamaRotaryEmbedding(child.config).to(device))


def _read_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Raises CalmError if the tokenizer cannot be read or has no end-of-text token."""
    name = Path(folder).name
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise a dozen kinds for missing and damaged files
        raise CalmError(
            f"The tokenizer of {name} cannot be read; download its tokenizer.json and tokenizer_config.json again."
        ) from error
    if tokenizer.eos_token_id is None:
        raise CalmError(f"The tokenizer of {name} has no end-of-text token; name it in {name}/tokenizer_config.json.")
    return tokenizer
