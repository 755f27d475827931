"""One step of a Llama backbone for several sequences at once, over a preallocated key/value cache.

It computes what transformers' ``LlamaModel`` computes, on the same weights, without the overhead of its modules.
R rows (one for each new position), T positions, D hidden size, H query heads, W head width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaModel
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from .ops import torch_ops
from .ops.cuda_graphs import GraphedFunction
from .ops.selection import Backend, WeightPacker, cpu_kernels, select_backend, select_operators
from .ops.types import Linear, Norm, TensorFunction, fuse_linears

# Up to this many new positions the CPU kernels are faster than PyTorch's modules, without and with a matrix unit.
KERNEL_PROMPT, MATRIX_UNIT_PROMPT = 32, 256
SMALLEST_CACHE = 256  # positions

Draw = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""One draw at a state [1, ...] with its random numbers [1, ...] -> its tokens [1, K], and a row [1, C] for the sampler.
"""


class LayerWeights(NamedTuple):
    """The weights of one decoder layer. Looking them up in modules costs as much time as adding a few rows."""

    attention_norm: Norm
    qkv: Linear
    out: Linear
    mlp_norm: Norm
    gate_up: Linear
    down: Linear

    @classmethod
    def of(cls, layer: LlamaDecoderLayer) -> "LayerWeights":
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            Norm.of(layer.input_layernorm),
            fuse_linears(attention.q_proj, attention.k_proj, attention.v_proj),
            Linear.of(attention.o_proj),
            Norm.of(layer.post_attention_layernorm),
            fuse_linears(mlp.gate_proj, mlp.up_proj),
            Linear.of(mlp.down_proj),
        )

    def packed(self, packer: WeightPacker) -> tuple[np.ndarray, ...]:
        """The arrays that the CPU kernels read, in their order."""
        attention = *self.attention_norm.arrays, *packer.linear(*self.qkv), *packer.linear(*self.out)
        return *attention, *self.mlp_norm.arrays, *packer.halves(*self.gate_up), *packer.linear(*self.down)


Read = Callable[[Tensor, np.ndarray, float, tuple], Tensor]
"""Embeds tokens [R, ...], runs the backbone and projects the hidden states of some rows [S], in one kernel call. The
last arguments are ``eps`` and ``backbone`` of the kernel ``llama``."""


def identity(x: Tensor) -> Tensor:
    """x."""
    return x


def make_backbone_step(
    model: LlamaModel,
    slots: int,
    embed: TensorFunction = identity,
    project: TensorFunction = identity,
    backend: Backend | None = None,
    read: Read | None = None,
) -> "BackboneStep":
    """The backbone step of a backend; by default of the fastest one for the model.

    ``read`` does what ``embed``, the CPU kernel of the backbone and ``project`` do."""
    backend = backend or select_backend(model.norm.weight, model.config.hidden_act)
    if backend is not Backend.CPU_KERNELS:
        return BackboneStep(model, slots, embed, project)
    kernels = cpu_kernels()
    assert kernels
    return CpuBackboneStep(model, slots, embed, project, kernels, read)


class BackboneStep:
    """Backbone steps by PyTorch's or Triton's operators, captured as CUDA graphs on a GPU.

    Up to ``slots`` sequences of at most ``length`` positions share one key/value cache, a slot each. ``embed`` turns
    the tokens [R, ...] of the new positions into backbone inputs [R, D]; ``project`` turns hidden states [R, D] into
    the states [R, ...] that a sampler reads. On a GPU one graph holds all three, because a kernel takes
    longer to launch than to run.

    A sequence's numbers do not depend on the other sequences: either the operators compute each row independently of
    the others, or every step computes all slots.
    """

    waits_for_runs = False
    """Whether ``run`` waits for the draws, and ends where the text does."""
    prompt_limit = 1
    """The most new positions of one sequence that a batched step computes. A longer prompt is prefilled alone."""

    def __init__(self, model: LlamaModel, slots: int, embed: TensorFunction, project: TensorFunction):
        config = model.config
        self.embed, self.project = embed, project
        self.slots, self.length, self.capacity = slots, config.max_position_embeddings, 0
        self.positions = [0] * slots
        """The next position of each slot."""
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.head_dim or config.hidden_size // config.num_attention_heads
        self.activation = ACT2FN[config.hidden_act]
        self.layers = [LayerWeights.of(layer) for layer in model.layers]
        self.norm = Norm.of(model.norm)
        self.operators = select_operators(self.norm.weight, config.hidden_act)
        self.cache = self.norm.weight.new_empty(len(self.layers), slots, 2 * self.kv_heads, 0, self.width)
        """Keys, then values: [layers, slots, 2 kv_heads, capacity, W]."""
        self.graphs: dict[int, GraphedFunction[Tensor]] = {}
        """Steps over the present cache, by the number of slots that they compute."""
        self.run_graph: GraphedFunction[tuple[Tensor, Tensor]] | None = None
        """A step of a run over the present cache."""
        self.cos, self.sin = self._rotary_tables(model)

    @property
    def bytes_per_weight(self) -> float:
        """Bytes that a step reads from memory for one weight."""
        return self.norm.weight.itemsize

    def use_threads(self, count: int) -> None:
        """Sets the number of threads of the compiled kernels. PyTorch has its own setting."""

    def _rotary_tables(self, model: LlamaModel) -> tuple[Tensor, Tensor]:
        """cos and sin [length, H + 2 kv_heads, W] for queries, keys and values; values stay unrotated."""
        weight = self.norm.weight
        positions = torch.arange(self.length, device=weight.device)[None]
        cos, sin = (x[0, :, None] for x in model.rotary_emb(weight, positions))
        rotated, unrotated = self.heads + self.kv_heads, self.kv_heads
        cos = torch.cat((cos.repeat(1, rotated, 1), torch.ones_like(cos).repeat(1, unrotated, 1)), 1)
        sin = torch.cat((sin.repeat(1, rotated, 1), torch.zeros_like(sin).repeat(1, unrotated, 1)), 1)
        sin[..., : self.width // 2] *= -1  # the minus sign of rotate-half
        return cos, sin

    def _reserve(self, positions: int) -> None:
        """Grows the cache to at least ``positions``. It at least doubles, so a long text needs few copies."""
        if positions <= self.capacity:
            return
        capacity = min(self.length, max(SMALLEST_CACHE, positions, 2 * self.capacity))
        # Zeros, because a masked position still counts with weight 0, and 0 times an uninitialised NaN is NaN.
        self.cache = F.pad(self.cache, (0, 0, 0, capacity - self.capacity))
        self.capacity, self.run_graph = capacity, None
        self.graphs.clear()

    def reset(self, slot: int) -> None:
        """Starts a new sequence in a slot."""
        self.positions[slot] = 0

    def step(self, slots: Sequence[int], counts: Sequence[int], tokens: Tensor) -> Sequence[Tensor]:
        """Computes the next ``counts`` positions of some slots. Only the first step of a sequence has more than one.

        tokens [sum of counts, ...] on the CPU -> the projected hidden state of the last position of each slot. No
        sequence may be at the end of its context. If this raises, the call can be repeated with fewer slots.
        """
        if max(counts) > self.prompt_limit:
            return self._step_with_prefill(slots, counts, tokens)
        states = self._batched_step(slots, counts, tokens)
        for slot, count in zip(slots, counts):
            self.positions[slot] += count
        return states

    def _step_with_prefill(self, slots: Sequence[int], counts: Sequence[int], tokens: Tensor) -> Sequence[Tensor]:
        """Prefills the longest prompt alone, then steps the other slots."""
        i, parts = counts.index(max(counts)), list(tokens.split(list(counts)))
        state = self._prefill(slots[i], parts.pop(i))
        self.positions[slots[i]] = counts[i]
        if not parts:
            return [state]
        other_slots, other_counts = ([*numbers[:i], *numbers[i + 1 :]] for numbers in (slots, counts))
        states = self.step(other_slots, other_counts, torch.cat(parts))
        return [*states[:i], state, *states[i:]]

    @torch_ops.sdpa_backends
    def _prefill(self, slot: int, tokens: Tensor) -> Tensor:
        """Starts a sequence with T positions: tokens [T, ...] -> the projected hidden state of the last one."""
        x = self.embed(tokens.to(self.norm.weight.device))
        count, heads, kv = len(x), self.heads, self.kv_heads
        self._reserve(count)
        cos, sin, linear = self.cos[:count], self.sin[:count], torch_ops.linear
        for layer, cache in zip(self.layers, self.cache):
            y = linear(x, layer.qkv, layer.attention_norm).unflatten(-1, (-1, self.width))
            y = torch_ops.rotate(y, cos, sin).transpose(0, 1)
            cache[slot, :, :count] = y[heads:]
            query, key, value = y[None].split((heads, kv, kv), dim=1)  # [1, heads, T, W]
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=heads != kv)
            x = linear(attended[0].transpose(0, 1).flatten(-2), layer.out, add=x)
            inner = linear(x, layer.gate_up, layer.mlp_norm, self.activation, gated=True)
            x = linear(inner, layer.down, add=x)
        return self.project(self.norm(x[-1:]))[0]

    def _batched_step(self, slots: Sequence[int], counts: Sequence[int], tokens: Tensor) -> Sequence[Tensor]:
        """One position of each slot, in one graph of the first slot or of all.

        The graph also writes keys and values of idle slots, but only at their next position, which their own next step
        overwrites.
        """
        positions = torch.tensor([min(position, self.length - 1) for position in self.positions])
        self._reserve(1 + int(positions.max()))
        count = self.slots if max(slots) else self._first_rows
        all_tokens = tokens.new_zeros(self.slots, *tokens.shape[1:])
        all_tokens[list(slots)] = tokens
        inputs = all_tokens[:count], positions[:count]
        if count not in self.graphs:
            on_device = (tensor.to(self.norm.weight.device) for tensor in inputs)
            self.graphs[count] = GraphedFunction(self._forward, *on_device)
        states = self.graphs[count](*inputs).clone()
        return [states[slot] for slot in slots]

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens [R, ...] of the first R slots at positions [R] -> projected hidden states."""
        linear, x = self.operators.linear, self.embed(tokens)
        for layer, cache in zip(self.layers, self.cache):
            qkv = linear(x, layer.qkv, layer.attention_norm)
            x = linear(self.operators.attend(qkv, cache, positions, self.cos, self.sin), layer.out, add=x)
            inner = linear(x, layer.gate_up, layer.mlp_norm, self.activation, gated=True)
            x = linear(inner, layer.down, add=x)
        return self.project(self.norm(x))

    @property
    def _first_rows(self) -> int:
        """Slots that a step of slot 0 computes."""
        return 1 if self.operators.ROW_INDEPENDENT else self.slots

    def run_limit(self) -> int:
        """The most steps of a run. The cache grows in ordinary steps alone, so that it grows at the same positions with
        runs and without."""
        return self.capacity - max(self.positions[: self._first_rows])

    def run(self, layers: Any, state: Tensor, numbers: Tensor, ends: np.ndarray) -> tuple[Tensor, Tensor]:
        """Steps of the sequence in slot 0 that need no decision: draws at a state, reads the drawn tokens, draws at the
        next state, and so on. It does not wait for the draws, so it does not end with one of the tokens ``ends``.

        ``layers`` are those around the backbone. state [...], the random numbers [n, ...] of n steps -> the rows [n, C]
        of the draws, and the state after the last one. n is at most ``run_limit``.
        """
        positions = torch.tensor(self.positions[: self._first_rows]).repeat(len(numbers), 1)
        positions[:, 0] += torch.arange(len(numbers))
        states, rows = state[None], []
        for inputs in zip(positions.to(state.device), numbers.split(1)):
            if self.run_graph is None:
                self.run_graph = GraphedFunction(partial(self._draw_and_read, layers.draw_one), states, *inputs)
            row, states = self.run_graph(states, *inputs)
            rows.append(row.clone())
        self.positions[0] += len(numbers)
        return torch.cat(rows), states[0].clone()

    def _draw_and_read(self, draw: Draw, states: Tensor, positions: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """states [1, ...], positions [R] of the first R slots, numbers [1, ...] -> a row [1, C], and the next states
        [1, ...]."""
        tokens, row = draw(states, numbers)
        return row, self._forward(tokens.expand(len(positions), -1), positions)[:1]


class CpuBackboneStep(BackboneStep):
    """Backbone steps by compiled CPU kernels. Prompts beyond ``prompt_limit`` positions go through PyTorch."""

    waits_for_runs = True

    def __init__(
        self,
        model: LlamaModel,
        slots: int,
        embed: TensorFunction,
        project: TensorFunction,
        kernels: ModuleType,
        read: Read | None,
    ):
        super().__init__(model, slots, embed, project)
        self.kernels, self.read = kernels, read or self._read_in_parts
        packer = WeightPacker(model, kernels)
        self.prompt_limit = MATRIX_UNIT_PROMPT if packer.uses_matrix_unit else KERNEL_PROMPT
        self.packed = packer.stack((layer.packed(packer) for layer in self.layers), len(self.layers))
        """The kernel's arrays of all layers in their order: norm, first weight, ..., each [layers, ...]."""
        self.constants = self.cos.numpy(), self.sin.numpy(), *self.norm.arrays, *self.packed

    @property
    def bytes_per_weight(self) -> float:
        return self.packed[1].nbytes / (len(self.layers) * self.layers[0].qkv.weight.numel())

    def use_threads(self, count: int) -> None:
        self.kernels.use_threads(count)

    def _batched_step(self, slots: Sequence[int], counts: Sequence[int], tokens: Tensor) -> Sequence[Tensor]:
        """All new positions of all slots, in one kernel call."""
        row_slots = [slot for slot, count in zip(slots, counts) for _ in range(count)]
        row_positions = [self.positions[slot] + i for slot, count in zip(slots, counts) for i in range(count)]
        self._reserve(1 + max(row_positions))
        backbone = self.cache.numpy(), np.array(row_slots), np.array(row_positions), *self.constants
        last = np.array([end - 1 for end in accumulate(counts)])
        return self.read(tokens, last, self.norm.eps, backbone).unbind()

    def run(self, layers: Any, state: Tensor, numbers: Tensor, ends: np.ndarray) -> tuple[Tensor, Tensor]:
        """As above, in one kernel call. It waits for the draws, and ends with one of the tokens ``ends`` [E], so that
        there may be fewer rows than numbers."""
        position = np.array(self.positions[:1])  # the kernel counts it up
        backbone = self.cache.numpy(), np.zeros(1, np.int64), position, *self.constants
        rows, state = layers.run(state, numbers, ends, self.norm.eps, backbone)
        self.positions[0] = int(position[0])
        return rows, state

    def _read_in_parts(self, tokens: Tensor, last: np.ndarray, eps: float, backbone: tuple) -> Tensor:
        """tokens [R, ...] -> the projected hidden states of the rows ``last`` [S]."""
        inputs = self.embed(tokens).contiguous().numpy()
        hidden = torch.empty(*inputs.shape)
        self.kernels.llama(inputs, eps, backbone, self.kernels.get_num_threads(), hidden.numpy())
        return self.project(hidden if len(last) == len(hidden) else hidden[last])
