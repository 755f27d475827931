"""One training loop for all models, on ``accelerate``: resumable to the step, logged, validated, cleanly stopped."""

import copy
import json
import math
import signal
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, set_seed
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from tqdm import tqdm
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from ..errors import CalmError
from ..modeling.heads.energy import HeadBlock
from .optimizers import make, set_rates

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
# A part of a model that has rested since the run began has no moments yet.
PARTLY = replace(WHOLE, strict=False)


@dataclass
class LoopSettings:
    """How to train; what to train is the task's. Optimiser defaults are the paper's (section 7.1)."""

    out: str
    """The run's folder: ``log.jsonl``, ``state.pt`` (to resume), ``best/`` and ``last/`` (models)."""
    keep: bool = False
    """Whether the model of every validation is kept, in ``step-N/``."""
    steps: int = 250_000
    batch_size: int = 256
    """Rows (or chunks, for the autoencoder) a step, over all processes and accumulation steps."""
    accumulate: int = 1
    learning_rate: float = 3e-4
    schedule: str = "constant"
    """``constant``, ``cosine`` (down to a twentieth) or ``linear`` (down to nothing), after the warm-up."""
    warmup_steps: int = 2000
    weight_decay: float = 0.1
    beta2: float = 0.95
    muon: float = 0.0
    """Muon's rate for the matrices that it serves (``calm.training.optimizers``); 0 for AdamW alone. It multiplies in
    bfloat16: a CPU that has no units for it takes minutes a step of a model as large as story-k4-wide."""
    gradient_clip: float = 1.0
    compiled: bool = False
    """Whether PyTorch's compiler makes kernels of the repeated parts of a model, which takes it a minute at first."""
    mixed_precision: str = "no"
    """``no``, ``bf16``, ``fp16``, or ``auto``: bf16 where the machine multiplies it in hardware."""
    seed: int = 0
    log_every: int = 20
    validate_every: int = 1000
    save_every: int = 500
    minutes: float = math.inf
    """Of one call, after which it stops as on Ctrl-C: for machines that are lent in slices."""

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + 60 * self.minutes  # loading and tokenising count


class Task(Protocol):
    """What the loop needs to know of a model."""

    tokens_per_row: int

    @property
    def settings(self) -> LoopSettings: ...

    @property
    def objective(self) -> nn.Module:
        """Called with one batch, ``progress`` in [0, 1] and ``generator``; returns a dictionary with ``loss``."""
        ...

    def batch(self, step: int) -> np.ndarray: ...

    def validate(self) -> dict[str, float]:
        """Figures on held-out data; ``score`` decides which checkpoint is the best (higher is better)."""
        ...

    def save(self, folder: Path) -> None: ...


def _precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def run(task: Task) -> Path:
    """Trains until ``steps``, or until Ctrl-C, SIGTERM or ``minutes``; then the same call goes on where it stopped.

    Batches, noise and dropout depend on seed and step alone, so an interrupted run takes the same path as an
    uninterrupted one. Returns the folder of the best model, or of the run before there is one.
    """
    settings = task.settings
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    # A part of a model may rest for a share of the run, as the energy head does while the backbone learns alone.
    resting = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision=_precision(settings.mixed_precision), kwargs_handlers=[resting])
    set_seed(settings.seed)
    share, odd = divmod(settings.batch_size, settings.accumulate * accelerator.num_processes)
    if odd or not share:
        raise CalmError(
            f"A batch of {settings.batch_size} rows cannot be split over {accelerator.num_processes} processes "
            f"and {settings.accumulate} accumulation steps; choose a multiple of their product."
        )
    # FSDP leaves each process a share of what it trains; the task keeps a whole model, to validate and to save.
    sharded = accelerator.distributed_type == DistributedType.FSDP
    if sharded and settings.muon:
        raise CalmError("Muon reads whole matrices and FSDP spreads them; set muon=0, or train without FSDP.")
    objective = copy.deepcopy(task.objective) if sharded else task.objective
    optimizers = make(objective, settings)
    state = _read_state(out)
    if state:
        objective.load_state_dict(state["objective"])
    if settings.compiled:
        for part in objective.modules():
            if isinstance(part, HeadBlock | LlamaDecoderLayer):
                part.compile()
    objective, *optimizers = accelerator.prepare(objective, *optimizers)
    if state:
        set_optimizer_state_dict(objective, _bare(optimizers), state["optimizer"], options=PARTLY)
    start, seconds, best = (state["step"], state["seconds"], state["best"]) if state else (0, 0.0, None)
    del state  # its tensors are as large as the model three times
    lead = accelerator.is_main_process
    if sharded and lead:
        task.objective.to(accelerator.device)
    stop = _StopSignal()

    bar = tqdm(total=settings.steps, initial=start, disable=not lead, desc=out.name, mininterval=5, unit="step")
    window: list[dict[str, Tensor]] = []
    clock = time.monotonic()
    with stop, (out / "log.jsonl").open("a") as log:
        step, stopping = start, False
        while step < settings.steps and not stopping:
            set_rates(optimizers, settings, step)
            window.append(_step(task, objective, optimizers, accelerator, step, share))
            step += 1
            bar.update()
            now = time.monotonic()
            if stop.requested or now > settings.deadline:
                accelerator.set_trigger()
            stopping = accelerator.check_trigger()  # all processes stop where the first has noticed
            if lead and step % settings.log_every == 0:
                row = _mean(window)  # waits for the device
                now = time.monotonic()
                elapsed, clock = now - clock, now
                seconds += elapsed
                rate = len(window) * settings.batch_size * task.tokens_per_row / elapsed
                bar.set_postfix(loss=f"{row['loss']:.4f}", tokens_per_second=f"{rate:.0f}")
                tokens = step * settings.batch_size * task.tokens_per_row
                _write(log, {"step": step, **row, "tokens": tokens, "seconds": seconds, "tokens_per_second": rate})
                window = []
            last = step == settings.steps
            validating, saving = last or step % settings.validate_every == 0, last or step % settings.save_every == 0
            if sharded and validating:
                weights = get_model_state_dict(objective, options=WHOLE)  # by all processes; only the lead gets it
                if lead:
                    task.objective.load_state_dict(weights)
            if lead and validating:
                # Texts are of many lengths, each of which the compiler would begin anew with.
                with torch.compiler.set_stance("force_eager"):
                    figures = task.validate()
                _write(log, {"step": step, "validation": figures})
                bar.write(f"{out.name}, step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
                if best is None or figures["score"] > best:
                    best = figures["score"]
                    task.save(out / "best")
                if settings.keep:
                    task.save(out / f"step-{step}")
                if last:
                    task.save(out / "last")
                clock = time.monotonic()  # validation is not training time
            if saving or stopping:
                whole = {"step": step, "seconds": seconds, "best": best, **_state(objective, optimizers)}
                if lead:
                    _save(out, whole, settings, accelerator.device)
            accelerator.wait_for_everyone()
    bar.close()
    return out / "best" if (out / "best").is_dir() else out


def _step(task, objective, optimizers, accelerator: Accelerator, step: int, share: int) -> dict[str, Tensor]:
    """One optimiser step on this process's share of the batch; returns the mean of what the objective reported, which
    a GPU may still be working out while the next step is launched."""
    settings = task.settings
    batch = task.batch(step)
    progress = step / settings.steps
    totals: dict[str, Tensor] = {}
    for part in range(settings.accumulate):
        place = part * accelerator.num_processes + accelerator.process_index
        rows = torch.from_numpy(batch[place * share : (place + 1) * share]).to(accelerator.device)
        generator = torch.Generator(accelerator.device)
        generator.manual_seed(hash((settings.seed, step, place)) & 0x7FFFFFFF)
        with accelerator.accumulate(objective), accelerator.autocast():
            found = objective(rows, progress=progress, generator=generator)
        accelerator.backward(found["loss"] / settings.accumulate)
        for key, value in found.items():
            if value.ndim == 0:
                totals[key] = totals.get(key, 0) + value.detach().float() / settings.accumulate
    accelerator.clip_grad_norm_(objective.parameters(), settings.gradient_clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return accelerator.reduce(totals, "mean")


def _mean(window: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each figure over the steps that reported it; a loss term may begin or end with the run's progress."""
    totals: dict[str, list[float]] = {}
    for entry in window:
        for key, value in entry.items():
            totals.setdefault(key, []).append(float(value))
    return {key: sum(values) / len(values) for key, values in totals.items()}


def _write(log, row: dict) -> None:
    log.write(json.dumps(row) + "\n")
    log.flush()


def _bare(optimizers) -> tuple[torch.optim.Optimizer, ...]:
    return tuple(optimizer.optimizer for optimizer in optimizers)


def _state(objective: nn.Module, optimizers) -> dict[str, Any]:
    """Whole on the main process, however the weights are spread; to be called by all."""
    return {
        "objective": get_model_state_dict(objective, options=WHOLE),
        "optimizer": get_optimizer_state_dict(objective, _bare(optimizers), options=WHOLE),
    }


def _save(out: Path, state: dict[str, Any], settings: LoopSettings, device: torch.device) -> None:
    partial = out / "state.tmp"
    torch.save(state, partial)
    partial.replace(out / "state.pt")  # a cut-off write never destroys the last good state
    told = asdict(settings)
    if device.type == "cuda":
        told["device"] = torch.cuda.get_device_name(device)
    (out / "settings.json").write_text(json.dumps(told, indent=2, default=str))


def _read_state(out: Path) -> dict[str, Any] | None:
    path = out / "state.pt"
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


class _StopSignal:
    """Turns Ctrl-C and SIGTERM into a request that is honoured after the current step; a second one interrupts."""

    requested = False

    def _request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self):
        try:
            self._old = {s: signal.signal(s, self._request) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are somebody else's business
            self._old = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
