"""PyTorch operators for small-batch decoding: fused linear, cached attention, argmax over a vocabulary.

``triton_ops`` has the same operators as one Triton kernel each. R rows, I inputs, O outputs, V vocabulary, W width of
an attention head.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from .types import Linear, Norm, TensorFunction

ROW_INDEPENDENT = False  # matrix libraries choose their kernel by the number of rows

# cuDNN's attention is left out, because it compiles a plan for each new prompt length.
sdpa_backends = sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def linear(
    x: Tensor,
    weights: Linear,
    norm: Norm | None = None,
    activation: TensorFunction | None = None,
    gated: bool = False,
    add: Tensor | None = None,
) -> Tensor:
    """x [R, I] -> [R, O]: normalises x, applies the affine map, adds ``add`` [R, O], then applies the activation.

    A gated map has 2 O outputs: the activation of its first half is multiplied by its second half. ``add`` and
    ``gated`` exclude each other.
    """
    y = F.linear(x if norm is None else norm(x), *weights)
    if add is not None:
        y = y + add
    y, up = y.chunk(2, -1) if gated else (y, None)
    if activation:
        y = activation(y)
    return y if up is None else y * up


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x [..., W]; the first half of ``sin`` carries the minus sign of rotate-half."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


@sdpa_backends
def attend(qkv: Tensor, cache: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """One position of each of R sequences: writes its key and value into the cache, then attends to the cache so far.

    qkv [R, (heads + 2 kv_heads) W], cache [R or more, 2 kv_heads, capacity, W], positions [R], cos and sin
    [length, heads + 2 kv_heads, W], which leave values unrotated -> [R, heads W].
    """
    kv, capacity, width = cache.shape[1] // 2, *cache.shape[2:]
    heads = cos.shape[1] - 2 * kv
    y = rotate(qkv.unflatten(-1, (-1, width)), cos[positions], sin[positions])
    index = positions[:, None, None, None].expand(-1, 2 * kv, 1, width)
    cache[: len(qkv)].scatter_(2, index, y[:, heads:, None])
    mask = qkv.new_zeros(len(qkv), capacity).masked_fill_(
        torch.arange(capacity, device=qkv.device) > positions[:, None], -torch.inf
    )
    keys, values = cache[: len(qkv)].split(kv, dim=1)
    attended = F.scaled_dot_product_attention(
        y[:, :heads, None], keys, values, attn_mask=mask[:, None, None], enable_gqa=heads != kv
    )
    return attended.flatten(1)


def argmax(x: Tensor, norm: Norm, weight: Tensor) -> Tensor:
    """x [R, I], weight [V, I] -> for each row the index [R] of the largest logit, ``weight @ norm(x)``."""
    return F.linear(norm(x), weight).max(-1).indices
