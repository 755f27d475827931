"""The layers of a token-by-token model before and after its backbone, and its choice of a token.

R rows (one for each request), D hidden size, V vocabulary.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from .ops.selection import Backend, WeightPacker, cpu_kernels, select_backend
from .ops.types import Linear

TOP_TOKENS = 8  # candidates of a step


class TokenDraws(NamedTuple):
    """A token for each row, and the most probable tokens of its distribution."""

    tokens: list[int]
    """-1 where a logit over the temperature is not finite."""
    best: list[list[int]]
    probabilities: list[list[float]]


def make_token_step(model: LlamaForCausalLM, backend: Backend | None = None) -> "TokenStep":
    """The token step of a backend; by default of the fastest one for the model."""
    backend = backend or select_backend(model.lm_head.weight, model.config.hidden_act)
    if backend is not Backend.CPU_KERNELS:
        return TokenStep(model)
    kernels = cpu_kernels()
    assert kernels
    return CpuTokenStep(model, kernels)


class TokenStep:
    """Uses the model's PyTorch modules."""

    def __init__(self, model: LlamaForCausalLM):
        self.embedding, self.lm_head = model.model.embed_tokens, model.lm_head

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [R, 1] -> backbone inputs [R, D]."""
        return self.embedding(tokens[:, 0])

    def project(self, hidden: Tensor) -> Tensor:
        """hidden [R, D] -> logits [R, V]."""
        return self.lm_head(hidden)

    def sample(self, logits: Tensor, temperatures: Tensor, uniforms: Tensor) -> TokenDraws:
        """Draws a token of each row from the softmax at a temperature, by one uniform number from [0, 1): the inverse
        of the cumulative distribution. logits [R, V], float32 temperatures [R], float64 uniforms [R]."""
        return TokenDraws(*(numbers.tolist() for numbers in self._draw(logits, temperatures, uniforms)))

    def draw_one(self, logits: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """One draw, for ``BackboneStep.run``: logits [1, V], float64 temperature and uniform number [1, 2] -> the token
        [1, 1], and a row [1, C] for ``split``."""
        token, best, probabilities = self._draw(logits, numbers[:, 0].float(), numbers[:, 1])
        table = torch.cat((token[:, None].double(), best.double(), probabilities.double()), 1)
        return token[:, None].clamp(min=0), table

    def split(self, table: Tensor) -> TokenDraws:
        """The draws of the rows [n, C] of ``draw_one``."""
        count = (table.shape[1] - 1) // 2
        return TokenDraws(
            table[:, 0].long().tolist(), table[:, 1 : 1 + count].long().tolist(), table[:, 1 + count :].tolist()
        )

    def _draw(self, logits: Tensor, temperatures: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of ``sample`` -> the fields of ``TokenDraws`` as tensors."""
        scaled = logits.float() / temperatures.to(logits.device)[:, None]
        p = scaled.softmax(-1)
        cumulative = p.double().cumsum(-1)
        tokens = torch.searchsorted(cumulative, cumulative[:, -1:] * uniforms.to(logits.device)[:, None], right=True)
        tokens = tokens[:, 0].clamp(max=p.shape[1] - 1).masked_fill(~scaled.isfinite().all(-1), -1)
        top, best = p.topk(min(TOP_TOKENS, p.shape[-1]))
        return tokens, best, top


class CpuTokenStep(TokenStep):
    """Uses compiled CPU kernels. They read weights that were bfloat16 in the file as bfloat16, half of the bytes."""

    def __init__(self, model: LlamaForCausalLM, kernels: ModuleType):
        super().__init__(model)
        self.kernels = kernels
        self.table = model.model.embed_tokens.weight.detach().numpy()
        self.weights = WeightPacker(model, kernels).linear(*Linear.of(model.lm_head))

    def project(self, hidden: Tensor) -> Tensor:
        x, logits = hidden.numpy(), torch.empty(len(hidden), len(self.weights[1]))
        threads = self.kernels.get_num_threads()
        self.kernels.linear(x, *self.weights, x[:0], False, threads, logits.numpy())
        return logits

    def read(self, tokens: Tensor, last: np.ndarray, eps: float, backbone: tuple) -> Tensor:
        """A step of the backbone: tokens [R, 1] -> logits [S, V] of the rows ``last`` [S]."""
        logits, threads = torch.empty(len(last), len(self.weights[1])), self.kernels.get_num_threads()
        self.kernels.read_tokens(tokens.numpy(), last, self.table, self.weights, eps, backbone, threads, logits.numpy())
        return logits

    def sample(self, logits: Tensor, temperatures: Tensor, uniforms: Tensor) -> TokenDraws:
        tokens, best, probabilities = self._results(len(logits))
        numbers = logits.numpy(), temperatures.numpy(), uniforms.numpy()
        self.kernels.sample_tokens(*numbers, tokens, best, probabilities)
        return TokenDraws(tokens.tolist(), best.tolist(), probabilities.tolist())

    def run(
        self, state: Tensor, numbers: Tensor, ends: np.ndarray, eps: float, backbone: tuple
    ) -> tuple[Tensor, Tensor]:
        """Steps of one text, up to one of the tokens ``ends`` [E].

        logits [V], float64 temperatures and uniform numbers [n, 2] -> rows [at most n, C] for ``split``, and the logits
        of the next draw.
        """
        tokens, best, probabilities = self._results(len(numbers))
        logits, steps, threads = state[None].clone(), np.zeros(1, np.int64), self.kernels.get_num_threads()
        drawn = numbers[:, 0].float().numpy(), numbers[:, 1].contiguous().numpy()
        weights = logits.numpy(), ends, self.table, self.weights, eps, backbone
        self.kernels.run_tokens(*drawn, *weights, threads, tokens, best, probabilities, steps)
        table = np.concatenate((tokens[:, None], best, probabilities), 1, dtype=np.float64)
        return torch.from_numpy(table[: steps[0]]), logits[0]

    def _results(self, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Space for the fields of ``TokenDraws``."""
        shape = rows, min(TOP_TOKENS, len(self.weights[1]))
        return np.empty(rows, np.int64), np.empty(shape, np.int64), np.empty(shape)
