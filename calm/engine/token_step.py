"""The layers of a token-by-token model before and after its backbone.

R rows (one for each request), D hidden size, V vocabulary.
"""

from types import ModuleType

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from .ops.selection import Backend, WeightPacker, cpu_kernels, select_backend
from .ops.types import Linear


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


class CpuTokenStep(TokenStep):
    """Uses compiled CPU kernels. They read weights that were bfloat16 in the file as bfloat16, half of the bytes."""

    def __init__(self, model: LlamaForCausalLM, kernels: ModuleType):
        super().__init__(model)
        self.kernels = kernels
        self.table = model.model.embed_tokens.weight.detach().numpy()
        self.weights = WeightPacker(model, kernels).linear(*Linear.of(model.lm_head))

    def embed(self, tokens: Tensor) -> Tensor:
        return torch.from_numpy(self.table[tokens[:, 0].numpy()])

    def project(self, hidden: Tensor) -> Tensor:
        x = hidden.numpy()
        return torch.from_numpy(self.kernels.linear(x, *self.weights, x[:0], False, self.kernels.get_num_threads()))
