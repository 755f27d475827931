"""One training loop for all models, on ``accelerate``. It resumes to the step and stops cleanly on Ctrl-C."""

import copy
import json
import signal
import sys
import time
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, set_seed
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import CalmError
from ..files import write_text
from . import state as run_state
from .optimizers import WeightAverage, make, set_learning_rates
from .settings import AutoencoderSettings, LoopSettings


class Task(Protocol):
    """The interface of the loop to a model."""

    tokens_per_row: int
    compiled_types: tuple[type[nn.Module], ...]
    """Types of the repeated layers, which ``torch.compile`` compiles where the settings ask for it."""

    @property
    def settings(self) -> LoopSettings: ...

    @property
    def objective(self) -> nn.Module:
        """Called with the rows of a batch, ``progress`` in [0, 1), ``generator`` and ``labels`` if the batch has them;
        returns a dictionary with ``loss``."""
        ...

    def batch(self, step: int) -> np.ndarray:
        """The rows of a step [batch_size, tokens_per_row], or rows and labels
        [batch_size, 1 + M, tokens_per_row], with coupled noise [batch_size, 1 + 2 M, tokens_per_row]. They depend on
        seed and step alone."""
        ...

    def validate(self) -> dict[str, float]:
        """Figures on held-out data; ``score`` decides which checkpoint is the best (higher is better)."""
        ...

    def save(self, folder: Path) -> None: ...


def run(task: Task) -> Path:
    """Trains until ``steps``, or until Ctrl-C, SIGTERM or ``max_minutes``; the same call later resumes the run.

    Batches, noise and dropout depend on seed and step alone, so an interrupted run takes the same path as an
    uninterrupted one. Returns the folder of the best model, or of the run before the first validation. Raises CalmError
    for a batch that cannot be split over the processes, and for a damaged or foreign state in the run's folder.
    """
    training = Training(task)
    settings, progress = training.settings, training.progress
    with StopSignal() as stop, closing(training.bar), training.open_log() as log:
        stopping = False
        while progress.step < settings.steps and not stopping:
            training.step()
            stopping = training.should_stop(stop)
            last = progress.step == settings.steps
            if progress.step % settings.log_every == 0:
                training.log(log)
            if last or progress.step % settings.validate_every == 0:
                training.validate(log)
            if last or stopping or progress.step % settings.save_every == 0:
                training.checkpoint()
            training.accelerator.wait_for_everyone()
    return training.out / "best" if (training.out / "best").is_dir() else training.out


class Training:
    """A run in progress: prepared model and optimizers, progress, and figures not yet logged."""

    def __init__(self, task: Task):
        self.task, self.settings = task, task.settings
        self.out = Path(self.settings.out)
        self.out.mkdir(parents=True, exist_ok=True)
        # An objective may leave parts out of its loss for a share of the run, for example while a part is frozen.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        precision = _precision(self.settings)
        self.accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[unused])
        set_seed(self.settings.seed)
        self.rows = self._rows_at_once()
        # FSDP leaves each process a shard of what it trains; the task keeps a full model, to validate and to save.
        self.sharded = self.accelerator.distributed_type == DistributedType.FSDP
        if self.sharded and self.settings.muon_learning_rate:
            raise CalmError("Muon needs whole matrices, which FSDP shards; set muon_learning_rate=0 or use no FSDP.")
        if self.sharded and self.settings.ema_decay:
            raise CalmError("FSDP cannot average weights; set ema_decay=0 or use no FSDP.")
        if self.sharded and isinstance(self.settings, AutoencoderSettings) and self.settings.separate_codes:
            raise CalmError("FSDP would mix separate codes; set separate_codes=false or use no FSDP.")
        self._prepare()
        self.is_main = self.accelerator.is_main_process
        if self.sharded and self.is_main:
            task.objective.to(self.accelerator.device)
        self.window: list[dict[str, Tensor]] = []
        self._restart_clocks()
        total, step = self.settings.steps, self.progress.step
        self.bar = tqdm(
            total=total, initial=step, disable=not self.is_main, desc=self.out.name, mininterval=5, unit="step"
        )

    def _rows_at_once(self) -> int:
        """Rows that one process computes at a time. Raises CalmError if the batch cannot be split evenly."""
        settings, processes = self.settings, self.accelerator.num_processes
        rows, rest = divmod(settings.batch_size, settings.accumulation_steps * processes)
        if rest or not rows:
            raise CalmError(
                f"A batch of {settings.batch_size} rows cannot be split over {processes} processes "
                f"and {settings.accumulation_steps} accumulation steps; choose a multiple of their product."
            )
        return rows

    def _prepare(self) -> None:
        """Makes objective, optimizers and average, restores an earlier state, compiles, and distributes them."""
        objective = copy.deepcopy(self.task.objective) if self.sharded else self.task.objective
        optimizers = make(objective, self.settings)
        state = run_state.read(self.out)
        self.progress = run_state.Progress()
        if state:
            run_state.restore_weights(objective, state, self.out)
            self.progress = run_state.Progress(*(state[field.name] for field in fields(run_state.Progress)))
        if self.settings.compile:
            for part in objective.modules():
                if isinstance(part, self.task.compiled_types):
                    part.compile()
        self.objective, *self.optimizers = self.accelerator.prepare(objective, *optimizers)
        if state:
            run_state.restore_optimizers(self.objective, self.optimizers, state)
            if self.accelerator.scaler and state.get("scaler"):
                self.accelerator.scaler.load_state_dict(state["scaler"])
        averages = self.settings.ema_decay and self.accelerator.is_main_process  # the only one that saves models
        self.average = WeightAverage(self.objective, self.settings.ema_decay) if averages else None
        if self.average and state and "average" in state:
            torch._foreach_copy_(self.average.weights, state["average"])

    def open_log(self) -> TextIO:
        """Opens ``log.jsonl`` for appending, without the lines that a killed run wrote after its last saved state."""
        path = self.out / "log.jsonl"
        if self.is_main and path.exists():
            lines = path.read_text().splitlines()
            earlier = [line for line in lines if _step_of(line) <= self.progress.step]
            if len(earlier) < len(lines):
                write_text(path, "".join(line + "\n" for line in earlier))
        return path.open("a")

    def step(self) -> None:
        """One optimizer step on this process's part of the batch. Figures stay on the device until they are logged."""
        settings, progress, accelerator = self.settings, self.progress, self.accelerator
        set_learning_rates(self.optimizers, settings, progress.step)
        batch = self.task.batch(progress.step)
        totals: dict[str, Tensor] = {}
        for part in range(settings.accumulation_steps):
            index = part * accelerator.num_processes + accelerator.process_index
            rows = torch.from_numpy(batch[index * self.rows : (index + 1) * self.rows]).to(accelerator.device)
            ids, labels = (rows[:, 0], rows[:, 1:]) if rows.ndim == 3 else (rows, None)
            targets = {} if labels is None else {"labels": labels}
            seed = hash((settings.seed, progress.step, index)) & 0x7FFFFFFF
            torch.manual_seed(seed)  # attention dropout has no generator of its own
            generator = torch.Generator(accelerator.device).manual_seed(seed)
            with accelerator.accumulate(self.objective), accelerator.autocast():
                share = progress.step / settings.steps
                figures = self.objective(ids, progress=share, generator=generator, **targets)
            accelerator.backward(figures["loss"] / settings.accumulation_steps)
            for key, value in figures.items():
                if value.ndim == 0:
                    totals[key] = totals.get(key, 0) + value.detach().float() / settings.accumulation_steps
        accelerator.clip_grad_norm_(self.objective.parameters(), settings.gradient_clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.window.append(accelerator.reduce(totals, "mean"))
        progress.step += 1
        if self.average:
            self.average.update(progress.step)
        self.bar.update()

    def should_stop(self, stop: "StopSignal") -> bool:
        """Whether any process got a stop signal or passed the deadline."""
        if stop.requested or time.monotonic() > self.settings.deadline:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def _restart_clocks(self) -> None:
        self.clock, self.cpu_clock = time.monotonic(), time.process_time()

    def log(self, file: TextIO) -> None:
        """Writes the mean figures since the last line, with tokens, seconds (on the clock and of CPU time, which other
        programs on the machine do not change) and tokens a second."""
        if not self.is_main:
            return
        row = _means(self.window)  # waits for the device
        elapsed, cpu_elapsed = time.monotonic() - self.clock, time.process_time() - self.cpu_clock
        self._restart_clocks()
        self.progress.seconds += elapsed
        self.progress.cpu_seconds += cpu_elapsed
        tokens = self.settings.batch_size * self.task.tokens_per_row
        rate = len(self.window) * tokens / elapsed
        self.bar.set_postfix(loss=f"{row['loss']:.4f}", tokens_per_second=f"{rate:.0f}")
        seconds = {"seconds": self.progress.seconds, "cpu_seconds": self.progress.cpu_seconds}
        done = {"tokens": self.progress.step * tokens, **seconds, "tokens_per_second": rate}
        _write_line(file, {"step": self.progress.step, **row, **done})
        self.window = []

    def validate(self, file: TextIO) -> None:
        """Measures the model on held-out data, with averaged weights if the run has them, and saves it to ``best/`` if
        it is the best so far."""
        if self.sharded:
            weights = run_state.full_weights(self.objective)  # all processes take part; only the main one gets them
            if self.is_main:
                self.task.objective.load_state_dict(weights)
        if not self.is_main:
            return
        # Held-out texts have many lengths, and the compiler would recompile for each of them.
        with self._averaged(), torch.compiler.set_stance("force_eager"):
            figures = self.task.validate()
            step = self.progress.step
            _write_line(file, {"step": step, "validation": figures})
            shown = ", ".join(f"{k} {v:.4g}" for k, v in figures.items())
            self.bar.write(f"{self.out.name}, step {step}: {shown}", file=sys.stderr)  # stdout has the result alone
            if self.progress.best is None or figures["score"] > self.progress.best:
                self.progress.best = figures["score"]
                self.task.save(self.out / "best")
            if self.settings.keep_checkpoints:
                self.task.save(self.out / f"step-{step}")
        self._restart_clocks()  # validation is not training time

    def _averaged(self) -> AbstractContextManager[None]:
        """A context in which the model has its averaged weights, if the run averages them."""
        return self.average.in_place() if self.average else nullcontext()

    def checkpoint(self) -> None:
        """Saves the state that a later call resumes from, and the model to ``last/``."""
        state = run_state.gather(self.objective, self.optimizers)
        if not self.is_main:
            return
        if self.accelerator.scaler:  # of fp16
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.average:
            state["average"] = self.average.weights
        run_state.write(self.out, self.progress, state, self.settings, self.accelerator.device)
        if self.sharded:
            self.task.objective.load_state_dict(state["objective"])
        with self._averaged():
            self.task.save(self.out / "last")


def _precision(settings: LoopSettings) -> str:
    """``auto`` as bf16 where the hardware multiplies bfloat16, else as ``no``; other settings as they are.

    Raises CalmError for fp16 without a GPU or with Muon.
    """
    setting = settings.mixed_precision
    if setting == "fp16" and not torch.accelerator.is_available():
        raise CalmError("The mixed precision 'fp16' needs a GPU; set mixed_precision to 'auto'.")
    if setting == "fp16" and settings.muon_learning_rate:  # accelerate would divide Muon's gradients by the scale twice
        raise CalmError("Muon cannot train in fp16; set mixed_precision to 'bf16' or muon_learning_rate to 0.")
    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def _means(window: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each figure over the steps that have it; a loss term may start or end during the window."""
    values: dict[str, list[float]] = {}
    for entry in window:
        for key, value in entry.items():
            values.setdefault(key, []).append(float(value))
    return {key: sum(numbers) / len(numbers) for key, numbers in values.items()}


def _write_line(file: TextIO, row: dict[str, Any]) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()


def _step_of(line: str) -> float:
    """The step of a line of the log; infinity for a line that was cut off."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")


class StopSignal:
    """Turns Ctrl-C and SIGTERM into a request to stop after the current step; a second signal interrupts at once."""

    requested = 0
    """The signal; 0 without one."""

    def _request(self, number: int, frame: Any) -> None:
        if self.requested:
            self._pass_on(number, frame)
            raise KeyboardInterrupt
        self.requested = number

    def __enter__(self) -> "StopSignal":
        try:
            self._old: dict[int, Any] = {
                number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)
            }
        except ValueError:  # outside the main thread, Python allows no signal handlers
            self._old = {}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self.requested and kind is None:
            self._pass_on(self.requested, None)

    def _pass_on(self, number: int, frame: Any) -> None:
        """Calls the handler that was there before, such as the one of the command line, after the run has stopped."""
        handler = self._old[number]
        if callable(handler) and handler is not signal.default_int_handler:
            handler(number, frame)
