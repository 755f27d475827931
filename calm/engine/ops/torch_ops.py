"""What a step of few rows is made of on a GPU, by PyTorch: maps with all that is done before and after them, attention
over a cache, the likeliest token.

``calm.triton_operators`` has the same functions as one kernel each; R rows, I inputs, O outputs, W the width of a head.
"""

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

Map = Callable[[Tensor], Tensor]

INDEPENDENT = False
"""Whether the numbers of a row stay the same, to the bit, whatever the number of rows. A library of matrix products
chooses its kernel by it."""

# Without cuDNN's, which makes a plan for each new length of a prompt.
attention = sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


class Linear(NamedTuple):
    """An affine map: weight [O, I], bias [O]."""

    weight: Tensor
    bias: Tensor | None = None

    @classmethod
    def of(cls, module: nn.Module) -> "Linear":
        return cls(cast(Tensor, module.weight), cast(Tensor | None, module.bias))


class Norm(NamedTuple):
    """A root-mean-square norm, or a layer norm where there is a bias."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    @classmethod
    def of(cls, module: nn.Module) -> "Norm":
        bias = cast(Tensor | None, getattr(module, "bias", None))
        eps = module.variance_epsilon if isinstance(module, LlamaRMSNorm) else module.eps
        return cls(cast(Tensor, module.weight), bias, cast(float, eps))

    def __call__(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def fuse(*linears: nn.Linear) -> Linear:
    """Weights of several maps, stacked, so that one product computes all; the maps become views of it."""
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


def operators_for(parameter: Tensor, *activations: str) -> ModuleType:
    """The quickest operators for the device, number format and activations of a model."""
    triton = parameter.is_cuda and set(activations) <= {"silu"} and _triton(parameter.device, parameter.dtype)
    return triton or sys.modules[__name__]


@cache
def _triton(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """The operators by Triton, where it is at hand and works: it wants a recent GPU, and a C compiler."""
    try:
        from . import triton_ops as triton_operators

        one = torch.ones(1, 16, device=device, dtype=dtype)
        triton_operators.product(one, Linear(one))
    except Exception:  # its compilers have many ways to fail
        return None
    return triton_operators


def product(
    x: Tensor,
    linear: Linear,
    norm: Norm | None = None,
    activation: Map | None = None,
    gated: bool = False,
    add: Tensor | None = None,
) -> Tensor:
    """x [R, I] -> [R, O]: the map of the normalised x, plus ``add`` [R, O], then the activation.

    Where it is gated, the map has 2 O outputs: the activation of the first half is multiplied by the second, and
    nothing is added.
    """
    y = F.linear(x if norm is None else norm(x), *linear)
    if add is not None:
        y = y + add
    y, up = y.chunk(2, -1) if gated else (y, None)
    if activation:
        y = activation(y)
    return y if up is None else y * up


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [..., W]; the first half of ``sin`` bears the sign of rotate-half."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


@attention
def attend(qkv: Tensor, cache: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """One position of each of R sequences: writes keys and values into its cache and attends to what lies there so far.

    qkv [R, (heads + 2 kv_heads) W], cache [R or more, 2 kv_heads, capacity, W], positions [R], cos and sin
    [length, heads + 2 kv_heads, W], which leave values as they are -> [R, heads W].
    """
    kv, capacity, width = cache.shape[1] // 2, *cache.shape[2:]
    heads = cos.shape[1] - 2 * kv
    y = rotate(qkv.unflatten(-1, (-1, width)), cos[positions], sin[positions])
    place = positions[:, None, None, None].expand(-1, 2 * kv, 1, width)
    cache[: len(qkv)].scatter_(2, place, y[:, heads:, None])
    mask = qkv.new_zeros(len(qkv), capacity).masked_fill_(
        torch.arange(capacity, device=qkv.device) > positions[:, None], -torch.inf
    )
    keys, values = cache[: len(qkv)].split(kv, dim=1)
    attended = F.scaled_dot_product_attention(
        y[:, :heads, None], keys, values, attn_mask=mask[:, None, None], enable_gqa=heads != kv
    )
    return attended.flatten(1)


def likeliest(x: Tensor, norm: Norm, weight: Tensor) -> Tensor:
    """x [R, I], weight [V, I] -> the row of ``weight`` whose product with the normalised x is largest [R]."""
    return F.linear(norm(x), weight).max(-1).indices
