"""Types that all operator backends share. O outputs, I inputs, R rows, V vocabulary, W width of an attention head."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm

TensorFunction = Callable[[Tensor], Tensor]


class Linear(NamedTuple):
    """The parameters of an affine map."""

    weight: Tensor
    """[O, I]."""
    bias: Tensor | None = None
    """[O]."""

    @classmethod
    def of(cls, module: nn.Module) -> "Linear":
        """The parameters of an ``nn.Linear``, not copied."""
        return cls(cast(Tensor, module.weight), cast(Tensor | None, module.bias))


class Norm(NamedTuple):
    """The parameters of an RMSNorm, or of a LayerNorm if there is a bias."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    @classmethod
    def of(cls, module: nn.Module) -> "Norm":
        """The parameters of an ``nn.RMSNorm``, an ``nn.LayerNorm`` or transformers' ``LlamaRMSNorm``, not copied."""
        bias = cast(Tensor | None, getattr(module, "bias", None))
        eps = module.variance_epsilon if isinstance(module, LlamaRMSNorm) else module.eps
        return cls(cast(Tensor, module.weight), bias, cast(float, eps))

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The weight, and the bias if there is one, for the CPU kernels."""
        return tuple(x.detach().numpy() for x in (self.weight, self.bias) if x is not None)

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., I] -> its normalised values [..., I]."""
        if self.bias is None:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Operators(Protocol):
    """The operators of a backend. ``torch_ops`` documents each one."""

    ROW_INDEPENDENT: bool
    """Whether a row's result is the same, to the bit, for any number of rows beside it."""

    def linear(
        self,
        x: Tensor,
        weights: Linear,
        norm: Norm | None = None,
        activation: TensorFunction | None = None,
        gated: bool = False,
        add: Tensor | None = None,
    ) -> Tensor: ...

    def attend(self, qkv: Tensor, cache: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor: ...

    def argmax(self, x: Tensor, norm: Norm, weight: Tensor) -> Tensor: ...


def fuse_linears(*linears: nn.Linear) -> Linear:
    """Concatenates the outputs of several linear layers, so that one product computes all of them.

    The layers' own parameters become views of the fused ones: a later change of the model changes both.
    """
    weight = torch.cat([linear.weight.data for linear in linears])
    bias = None if linears[0].bias is None else torch.cat([linear.bias.data for linear in linears])
    start = 0
    for linear in linears:
        end = start + linear.out_features
        linear.weight.data = weight[start:end]
        if bias is not None:
            linear.bias.data = bias[start:end]
        start = end
    return Linear(weight, bias)
