"""Peak memory of loading a model of an official size, as a multiple of its weights.

python -m benchmarks.loading [calm-m calm-l calm-xl] [--format safetensors] [--dtype float32] [--json]

A first process writes the model with random weights in float32 to a temporary folder, a second one loads it on the
CPU. The figure is the growth of the second process's memory (peak resident set during ``calm.load`` minus resident set
before), over the bytes of the loaded weights. It needs Linux, and disk and memory for the model.
"""

import argparse
import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import calm
from calm.hub.loading import load_tokenizer
from calm.modeling.calm import EnergyTransformer
from calm.modeling.config import AutoencoderConfig, CalmConfig
from calm.training import recipe

FORMATS = ("safetensors", "bin")
STATUS = Path("/proc/self/status")


def write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, file_format: str) -> None:
    """Writes a model with random weights as one file of weights."""
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.02, 0.02)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder, max_shard_size="100GB")
    if file_format == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")


def write_size(name: str, folder: Path, file_format: str) -> None:
    """Writes the model of a recipe, with the official autoencoder."""
    config = CalmConfig(**recipe.read(name)["model"], autoencoder=AutoencoderConfig().to_dict())
    with torch.device("meta"):
        model = EnergyTransformer(config)
    model.to_empty(device="cpu")
    model.tie_weights()
    write(model, load_tokenizer("story-k4"), folder, file_format)


def load(folder: Path, dtype: torch.dtype) -> dict[str, float]:
    """Bytes of the weights of a model, and the growth of this process's memory while it is loaded."""
    torch.zeros(1) @ torch.zeros(1)  # the first product loads libraries
    load_tokenizer(folder)
    before = _memory("VmRSS")
    lm = calm.load(folder, device="cpu", dtype=dtype)
    weights = sum(parameter.nbytes for parameter in lm.model.parameters())
    growth = _memory("VmHWM") - before
    return {"weights": weights, "growth": growth, "ratio": growth / weights}


def measure(name: str, file_format: str, dtype: torch.dtype) -> dict[str, float]:
    """Writes and loads a size, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, mp_context=context) as process:
            process.submit(write_size, name, Path(folder), file_format).result()
        with ProcessPoolExecutor(1, mp_context=context) as process:
            return process.submit(load, Path(folder), dtype).result()


def _memory(field: str) -> int:
    """Bytes of a field of this process's status: VmRSS (resident set) or VmHWM (its peak)."""
    return 1024 * int(STATUS.read_text().partition(f"{field}:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=["calm-m"], metavar="SIZE", help="default: calm-m")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the loaded model")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.sizes:
        figures = measure(name, arguments.format, getattr(torch, arguments.dtype))
        if arguments.json:
            print(json.dumps({name: figures}), flush=True)
        else:
            gigabytes = (figures["weights"] / 1e9, figures["growth"] / 1e9)
            print("{}: {:.2f} GB of weights, {:.2f} GB of memory at the peak, ".format(name, *gigabytes), end="")
            print(f"ratio {figures['ratio']:.3f}", flush=True)


if __name__ == "__main__":
    main()
