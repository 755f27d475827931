"""One step of a Llama backbone for several sequences at once, over a preallocated key/value cache.

The same computation as transformers' ``LlamaModel``, on its own weights, without what a step does not need.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaModel
from transformers.activations import ACT2FN

BLOCK = 64  # cached positions that attention reads are rounded up to this


def _fuse(*linears: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Weights of several maps of one input, stacked, so that one product computes all; the maps become views of it."""
    weight = torch.cat([linear.weight.data for linear in linears])
    bias = None if linears[0].bias is None else torch.cat([linear.bias.data for linear in linears])
    start = 0
    for linear in linears:
        end = start + linear.out_features
        linear.weight.data = weight[start:end]
        if bias is not None:
            linear.bias.data = bias[start:end]
        start = end
    return weight, bias


class CachedBackbone:
    """``slots`` sequences of at most ``length`` positions share one cache; each keeps to its own slot.

    A step computes its products for all slots, used or not: on few rows they cost what reading the weights costs, and
    a sequence's numbers do not depend on how many others run.
    """

    def __init__(self, model: LlamaModel, slots: int):
        config = model.config
        self.model, self.slots = model, slots
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.head_dim or config.hidden_size // config.num_attention_heads
        self.length, self.capacity = config.max_position_embeddings, 0
        self.activation = ACT2FN[config.hidden_act]
        self.layers: list[tuple[Any, tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]] = []
        for layer in model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            qkv = _fuse(attention.q_proj, attention.k_proj, attention.v_proj)
            self.layers.append((layer, qkv, _fuse(mlp.gate_proj, mlp.up_proj)))
        weight = model.norm.weight
        self.cache = [weight.new_empty(slots, 2 * self.kv_heads, 0, self.width) for _ in self.layers]
        self.every = torch.arange(slots, device=weight.device)
        self.cos, self.sin = self._rotations(weight)

    def _rotations(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [length, heads + 2 kv_heads, width] for queries, keys and values; values are not turned."""
        positions = torch.arange(self.length, device=like.device)[None]
        cos, sin = (x[0, :, None] for x in self.model.rotary_emb(like, positions))
        turned, unturned = self.heads + self.kv_heads, self.kv_heads
        cos = torch.cat((cos.repeat(1, turned, 1), torch.ones_like(cos).repeat(1, unturned, 1)), 1)
        sin = torch.cat((sin.repeat(1, turned, 1), torch.zeros_like(sin).repeat(1, unturned, 1)), 1)
        sin[..., : self.width // 2] *= -1  # the sign of rotate-half, once and for all
        return cos, sin

    def _reserve(self, positions: int) -> None:
        """Room in the cache, doubled when it is spent, so that short texts do not pay for the longest."""
        if positions <= self.capacity:
            return
        before, self.capacity = self.capacity, min(self.length, max(256, positions, 2 * self.capacity))
        for i, old in enumerate(self.cache):
            self.cache[i] = old.new_empty(self.slots, 2 * self.kv_heads, self.capacity, self.width)
            self.cache[i][:, :, :before] = old

    def _qkv(self, x: Tensor, weights: tuple[Tensor, Tensor | None], cos: Tensor, sin: Tensor) -> Tensor:
        """x [S, D], the rotations of its positions -> queries, keys, values [S, heads + 2 kv_heads, width]."""
        y = F.linear(x, *weights).unflatten(-1, (-1, self.width))
        return torch.addcmul(y * cos, y.roll(self.width // 2, -1), sin)

    def _finish(self, x: Tensor, attended: Tensor, layer: Any, gate_up: tuple[Tensor, Tensor | None]) -> Tensor:
        """What follows attention in a layer; x and attended [S, D]."""
        x = x + layer.self_attn.o_proj(attended)
        gate, up = F.linear(self._norm(x, layer.post_attention_layernorm), *gate_up).chunk(2, -1)
        return x + layer.mlp.down_proj(self.activation(gate) * up)

    def _norm(self, x: Tensor, norm: Any) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)

    def prefill(self, slot: int, inputs: Tensor) -> Tensor:
        """Begins a sequence in a slot: inputs [T, D] -> the last hidden state [D]."""
        count, h = len(inputs), self.heads
        self._reserve(count)
        cos, sin = self.cos[:count], self.sin[:count]
        x = inputs
        for (layer, qkv, gate_up), cache in zip(self.layers, self.cache):
            y = self._qkv(self._norm(x, layer.input_layernorm), qkv, cos, sin).transpose(0, 1)  # [heads, T, width]
            cache[slot, :, :count] = y[h:]
            key, value = y[h : h + self.kv_heads], y[h + self.kv_heads :]
            attended = F.scaled_dot_product_attention(
                y[None, :h], key[None], value[None], is_causal=True, enable_gqa=self.heads != self.kv_heads
            )
            x = self._finish(x, attended[0].transpose(0, 1).flatten(-2), layer, gate_up)
        return self._norm(x[-1], self.model.norm)

    def step(self, inputs: Tensor, positions: Tensor, used: int, longest: int) -> Tensor:
        """One position of every slot: inputs [slots, D], positions [slots] -> hidden states [slots, D].

        Only the first ``used`` slots attend; ``longest`` is the highest position among them plus one. What is written
        for the others lies behind their end and is overwritten by their next true step.
        """
        self._reserve(longest)
        seen = min(self.capacity, -(-longest // BLOCK) * BLOCK)
        mask = (torch.arange(seen, device=inputs.device) <= positions[:used, None])[:, None, None]
        h, kv = self.heads, self.kv_heads
        cos, sin = self.cos[positions], self.sin[positions]
        x = inputs
        attended = inputs.new_zeros(self.slots, h, 1, self.width)
        for (layer, qkv, gate_up), cache in zip(self.layers, self.cache):
            y = self._qkv(self._norm(x, layer.input_layernorm), qkv, cos, sin)
            cache[self.every, :, positions] = y[:, h:]
            attended[:used] = F.scaled_dot_product_attention(
                y[:used, :h, None],
                cache[:used, :kv, :seen],
                cache[:used, kv:, :seen],
                attn_mask=mask,
                enable_gqa=h != kv,
            )
            x = self._finish(x, attended.flatten(1), layer, gate_up)
        return self._norm(x, self.model.norm)
