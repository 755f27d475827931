"""One step of a Llama backbone for several sequences at once, over a preallocated key/value cache.

The same computation as transformers' ``LlamaModel``, on its own weights, without what a step does not need.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaModel
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from .ops.cuda_graphs import Recording
from .ops.torch_ops import Linear, Map, Norm, attention, fuse, operators_for, product, rotate

PREFILLED, BY_UNIT = 32, 256  # positions of a prompt up to which the kernels take less time than the modules


def _same(x: Tensor) -> Tensor:
    return x


class Layer(NamedTuple):
    """The weights of one layer, within reach: finding them through modules costs as much as an addition of few rows."""

    attention_norm: Norm
    qkv: Linear
    out: Linear
    mlp_norm: Norm
    gate_up: Linear
    down: Linear


def _layer(layer: LlamaDecoderLayer) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        Norm.of(layer.input_layernorm),
        fuse(attention.q_proj, attention.k_proj, attention.v_proj),
        Linear.of(attention.o_proj),
        Norm.of(layer.post_attention_layernorm),
        fuse(mlp.gate_proj, mlp.up_proj),
        Linear.of(mlp.down_proj),
    )


def kernels_for(parameter: Tensor, activation: str) -> ModuleType | None:
    """The compiled kernels, where they serve: float32 on a CPU, SiLU, numba at hand and a place to keep its work."""
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32 or activation != "silu":
        return None
    try:
        from .ops import cpu as kernels
    except (ImportError, RuntimeError):
        return None
    return kernels


class Reader:
    """How the kernels read the weights of a model in float32: matrices packed, by their upper halves where they were
    bfloat16 on the disk, which come from memory in half of the time and suit a matrix unit."""

    def __init__(self, model: nn.Module, kernels: ModuleType):
        matrices = (parameter.detach() for parameter in model.parameters() if parameter.ndim > 1)
        halves = not any((matrix.view(torch.int32) & 0xFFFF).any() for matrix in matrices)
        self.unit, self.empty = halves and kernels.MATRIX_UNIT, kernels.empty
        self.pack = kernels.pack_panels if self.unit else kernels.pack_halves if halves else kernels.pack

    def linear(self, weight: Tensor, bias: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        """The packed weight, and the bias, zeros where there is none."""
        matrix = weight.detach().numpy()
        return self.pack(matrix), np.zeros(len(matrix), np.float32) if bias is None else bias.detach().numpy()

    def stacked(self, layers: Iterable[tuple[np.ndarray, ...]], count: int) -> tuple[np.ndarray, ...]:
        """The arrays of so many layers that are alike, each kind in one [count, ...]."""
        found: tuple[np.ndarray, ...] = ()
        for i, arrays in enumerate(layers):  # one after another, as large models have no room for all twice
            found = found or tuple(self.empty((count, *array.shape), array.dtype) for array in arrays)
            for whole, array in zip(found, arrays):
                whole[i] = array
        return found

    def halved(self, weight: Tensor, bias: Tensor | None) -> tuple[np.ndarray, ...]:
        """Of two maps that are stacked, weight and bias of the first, then of the second."""
        biases = (None, None) if bias is None else bias.chunk(2)
        return tuple(chain.from_iterable(map(self.linear, weight.chunk(2), biases)))


def _layer_arrays(layer: Layer, reader: Reader) -> tuple[np.ndarray, ...]:
    norm, mlp_norm = (norm.weight.detach().numpy() for norm in (layer.attention_norm, layer.mlp_norm))
    first = norm, *reader.linear(*layer.qkv), *reader.linear(*layer.out)
    return *first, mlp_norm, *reader.halved(*layer.gate_up), *reader.linear(*layer.down)


class CachedBackbone:
    """``slots`` sequences of at most ``length`` positions share one cache; each keeps to its own slot.

    ``embed`` makes the inputs [R, D] of what a step reads, and ``project`` makes of the hidden states [R, D] what the
    step is wanted for, [R, ...]: on a GPU, where starting each takes longer than its work, all three are one.

    A sequence's numbers do not depend on how many others run: the rows of the kernels and of Triton's operators are
    independent, and where there are neither, a step computes all slots, whichever are asked for.
    """

    def __init__(self, model: LlamaModel, slots: int, embed: Map = _same, project: Map = _same, interim: bool = False):
        config = model.config
        self.embed, self.project = embed, project
        self.slots, self.length, self.capacity = slots, config.max_position_embeddings, 0
        self.positions = [0] * slots  # of the next step of each sequence
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.head_dim or config.hidden_size // config.num_attention_heads
        self.activation = ACT2FN[config.hidden_act]
        self.layers = [_layer(layer) for layer in model.layers]
        self.norm = Norm.of(model.norm)
        self.operators = operators_for(self.norm.weight, config.hidden_act)
        self.cache = self.norm.weight.new_empty(len(self.layers), slots, 2 * self.kv_heads, 0, self.width)
        self.recorded: dict[int, Recording[Tensor]] = {}  # steps over the present cache, by slots that are computed
        self.cos, self.sin = self._rotations(model)
        self.kernels = None if interim else kernels_for(self.norm.weight, config.hidden_act)
        self.arrays: tuple[np.ndarray, ...] = ()
        """As the kernels read the layers: norm, weight of the first map, ..., each [layers, ...]."""
        if self.kernels:
            reader = Reader(model, self.kernels)
            self.prefilled = BY_UNIT if reader.unit else PREFILLED
            self.arrays = reader.stacked((_layer_arrays(layer, reader) for layer in self.layers), len(self.layers))

    def _rotations(self, model: LlamaModel) -> tuple[Tensor, Tensor]:
        """cos and sin [length, heads + 2 kv_heads, width] for queries, keys and values; values are not turned."""
        weight = self.norm.weight
        positions = torch.arange(self.length, device=weight.device)[None]
        cos, sin = (x[0, :, None] for x in model.rotary_emb(weight, positions))
        turned, unturned = self.heads + self.kv_heads, self.kv_heads
        cos = torch.cat((cos.repeat(1, turned, 1), torch.ones_like(cos).repeat(1, unturned, 1)), 1)
        sin = torch.cat((sin.repeat(1, turned, 1), torch.zeros_like(sin).repeat(1, unturned, 1)), 1)
        sin[..., : self.width // 2] *= -1  # the sign of rotate-half, once and for all
        return cos, sin

    def _reserve(self, positions: int) -> None:
        """Room in the cache, doubled when it is spent, so that short texts do not pay for the longest."""
        if positions <= self.capacity:
            return
        more = min(self.length, max(256, positions, 2 * self.capacity)) - self.capacity
        self.capacity += more
        # Zeros, because a masked position still counts with weight 0, and 0 times what memory may hold is not 0.
        self.cache = F.pad(self.cache, (0, 0, 0, more))
        self.recorded.clear()

    def begin(self, slot: int) -> None:
        """Forgets the sequence of a slot."""
        self.positions[slot] = 0

    def read(self, slots: Sequence[int], counts: Sequence[int], read: Tensor) -> Sequence[Tensor]:
        """The next ``counts`` positions of each of R slots, more than one only where a sequence begins: what they read
        [sum of counts, ...], on the CPU -> the projected hidden state of the last of each. No sequence may be at its
        end."""
        if max(counts) > (self.prefilled if self.kernels else 1):
            return self._read_long(slots, counts, read)
        states = self._rows(slots, counts, read) if self.kernels else self._step(slots, read)
        for slot, count in zip(slots, counts):
            self.positions[slot] += count
        return states

    def _read_long(self, slots: Sequence[int], counts: Sequence[int], read: Tensor) -> Sequence[Tensor]:
        """The longest alone, the others as ever."""
        i, parts = counts.index(max(counts)), list(read.split(list(counts)))
        state = self._prefill(slots[i], parts.pop(i))
        self.positions[slots[i]] = counts[i]
        if not parts:
            return [state]
        rest = [[*those[:i], *those[i + 1 :]] for those in (slots, counts)]
        states = self.read(rest[0], rest[1], torch.cat(parts))
        return [*states[:i], state, *states[i:]]

    def _rows(self, slots: Sequence[int], counts: Sequence[int], read: Tensor) -> Sequence[Tensor]:
        """In one pass of the kernels."""
        here = [slot for slot, count in zip(slots, counts) for _ in range(count)]
        at = [self.positions[slot] + i for slot, count in zip(slots, counts) for i in range(count)]
        self._reserve(1 + max(at))
        hidden = self._compiled(np.array(here), np.array(at), self.embed(read))
        if len(hidden) > len(slots):
            hidden = hidden[[end - 1 for end in accumulate(counts)]]
        return list(self.project(hidden))

    @attention
    def _prefill(self, slot: int, read: Tensor) -> Tensor:
        """Begins a sequence: what T positions read [T, ...] -> the projected hidden state of the last."""
        inputs = self.embed(read.to(self.norm.weight.device))
        count, h, kv = len(inputs), self.heads, self.kv_heads
        self._reserve(count)
        cos, sin = self.cos[:count], self.sin[:count]
        x = inputs
        for layer, cache in zip(self.layers, self.cache):
            y = product(x, layer.qkv, layer.attention_norm).unflatten(-1, (-1, self.width))
            y = rotate(y, cos, sin).transpose(0, 1)
            cache[slot, :, :count] = y[h:]
            query, key, value = y[None].split((h, kv, kv), dim=1)  # [1, heads, T, width]
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=h != kv)
            x = product(attended[0].transpose(0, 1).flatten(-2), layer.out, add=x)
            inner = product(x, layer.gate_up, layer.mlp_norm, self.activation, gated=True)
            x = product(inner, layer.down, add=x)
        return self.project(self.norm(x[-1:]))[0]

    def _step(self, slots: Sequence[int], read: Tensor) -> Sequence[Tensor]:
        """Computes some or all slots; what it writes for others lies behind their end, where their next step writes."""
        positions = torch.tensor([min(position, self.length - 1) for position in self.positions])
        self._reserve(1 + int(positions.max()))
        count = self.slots if max(slots) or not self.operators.INDEPENDENT else 1
        whole = read.new_zeros(self.slots, *read.shape[1:])
        whole[list(slots)] = read
        given = whole[:count], positions[:count]
        if count not in self.recorded:
            self.recorded[count] = Recording(self._all, *(each.to(self.norm.weight.device) for each in given))
        states = self.recorded[count](*given).clone()
        return [states[slot] for slot in slots]

    def _all(self, read: Tensor, positions: Tensor) -> Tensor:
        """What the first slots read at positions [R] -> the projected hidden states."""
        product, x = self.operators.product, self.embed(read)
        for layer, cache in zip(self.layers, self.cache):
            qkv = product(x, layer.qkv, layer.attention_norm)
            x = product(self.operators.attend(qkv, cache, positions, self.cos, self.sin), layer.out, add=x)
            inner = product(x, layer.gate_up, layer.mlp_norm, self.activation, gated=True)
            x = product(inner, layer.down, add=x)
        return self.project(self.norm(x))

    def _compiled(self, slots: np.ndarray, positions: np.ndarray, inputs: Tensor) -> Tensor:
        """R positions, of one slot or of many: inputs [R, D] -> hidden states [R, D]. What a position attends to is in
        the cache, or among them."""
        assert self.kernels
        norm, threads = self.norm.weight.detach().numpy(), self.kernels.get_num_threads()
        places, turns = (self.cache.numpy(), slots, positions), (self.cos.numpy(), self.sin.numpy())
        x = inputs.contiguous().numpy()
        return torch.from_numpy(self.kernels.llama(x, *places, *turns, self.norm.eps, threads, norm, self.arrays))
