"""From hidden states to candidate chunks: the generative head draws latent vectors, the autoencoder decodes them.

R rows (one for each request), n draws, K tokens a chunk, L latent, D hidden size.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from types import ModuleType
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from ..modeling.autoencoder import AutoencoderLayer
from ..modeling.calm import CalmModel, EnergyTransformer
from ..modeling.heads.energy import EnergyHead, HeadBlock
from .ops.cuda_graphs import GraphedFunction
from .ops.selection import Backend, WeightPacker, cpu_kernels, select_backend, select_operators
from .ops.types import Linear, Norm, fuse_linears

SLOTS = 8  # rows of a batch: as many requests as an engine runs at once
DRAW_BLOCK = 32  # draws in one call; on a GPU, that many cost little more than one
POOL_BLOCK = 128  # draws in one call of a head with many evaluations, for rows that need so many

TokenIds = tuple[int, ...]


class HeadStep:
    """The layers of a CALM before and after its backbone, computed by the model's PyTorch modules."""

    free_draws = 1
    """Draws for one row that take no longer than a single draw."""

    def __init__(self, model: CalmModel):
        self.model, self.head = model, model.generative_head  # stored, because a lookup in a module takes time

    def embed(self, chunks: Tensor) -> Tensor:
        """chunks [R, K] -> backbone inputs [R, D].

        At least ``SLOTS`` rows are computed, so that a row's numbers do not depend on how many rows a step has.
        """
        padded = F.pad(chunks, (0, 0, 0, max(0, SLOTS - len(chunks))))
        return self.model.embed(padded)[: len(chunks)]

    def project(self, hidden: Tensor) -> Tensor:
        """hidden [R, D] -> head states [R, *state] for any number of draws; [R, blocks, D] of an energy head."""
        return self.head.project(hidden)

    def vectors(self, states: Tensor, rows: Sequence[int] | Tensor, noise: Tensor) -> Tensor:
        """Draws a latent vector for each noise tensor: states [R, *state], rows [n] of them, noise [n, *noise_shape]
        -> vectors [n, L]."""
        return self.head.draw(states, noise, torch.as_tensor(rows))

    def decode(self, vectors: Tensor) -> Tensor:
        """vectors [n, L] -> the most likely token ids [n, K]."""
        return self.model.ae_model.decode(vectors)

    def draw(self, states: Tensor, rows: Sequence[int], noise: Tensor) -> tuple[list[TokenIds], np.ndarray]:
        """Draws and decodes, with the arguments of ``vectors`` -> n chunks of K token ids, and their vectors, float32
        [n, L]."""
        vectors = self.vectors(states, rows, noise)
        return list(map(tuple, self.decode(vectors).tolist())), vectors.float().cpu().numpy()

    def split(self, table: Tensor) -> tuple[list[TokenIds], np.ndarray]:
        """Token ids and vectors side by side [n, K + L] -> n chunks of K token ids, and their vectors [n, L]."""
        ids, vectors = table.split((self.model.config.patch_size, self.model.config.latent_size), 1)
        return list(map(tuple, ids.long().tolist())), vectors.numpy()


def make_head_step(model: CalmModel, backend: Backend | None = None) -> HeadStep:
    """The head step of a backend; by default of the fastest one for the model.

    Only the energy head has compiled kernels and fused operators.
    """
    if isinstance(model, EnergyTransformer):
        backend = backend or select_backend(next(model.parameters()), model.config.autoencoder_config().hidden_act)
        if backend is Backend.CPU_KERNELS:
            kernels = cpu_kernels()
            assert kernels
            return CpuHeadStep(model, kernels)
        if backend is Backend.CUDA_GRAPHS:
            return CudaGraphHeadStep(model)
    return ModuleHeadStep(model)


class HeadBlockWeights(NamedTuple):
    """The weights of one block of the energy head; ``mix`` holds the part that reads the noise path."""

    norm: Norm
    mix: Linear
    second: Linear
    gate_up: Linear
    down: Linear

    @classmethod
    def of(cls, block: HeadBlock) -> "HeadBlockWeights":
        mix = Linear(block.mix.weight[:, : block.mix.out_features])
        return cls(Norm.of(block.in_ln), mix, *map(Linear.of, (block.linears[2], block.linears[4], block.down_proj)))


class BlockHeadStep(HeadStep):
    """Draws in blocks of fixed sizes, so that a draw does not depend on the other draws of the call.

    Rows that need one draw share blocks of ``SLOTS`` draws; the others fill the larger blocks. On a GPU, where many
    draws cost little more than one, each block is captured as a CUDA graph.
    """

    free_draws = DRAW_BLOCK
    graphs: dict[int, GraphedFunction[Tensor]]
    """The captured functions, by their number of draws."""

    def _capture(self, blocks: Sequence[int], states: Tensor, noise: Tensor) -> None:
        """For head states shaped like states [R, *state] and draws with noise like noise [*noise_shape]."""
        self.draw_blocks = [block for block in blocks if block > SLOTS]
        self.graphs = {}
        for block in blocks:
            rows = torch.zeros(block, dtype=torch.long, device=states.device)
            repeated = noise.expand(block, *noise.shape)
            self.graphs[block] = GraphedFunction(self._draw_table, states, rows, repeated)

    def _draw_table(self, states: Tensor, rows: Tensor, noise: Tensor) -> Tensor:
        """The arguments of ``vectors`` -> token ids and vectors side by side [n, K + L]."""
        vectors = self.vectors(states, rows, noise)
        # One tensor, because each copy from the GPU takes time; float32 holds integers exactly up to 2^24.
        return torch.cat((self.decode(vectors).float(), vectors.float()), 1)

    def _block_of(self, draws: int) -> int:
        """The block size for a row that needs ``draws`` draws: the largest block that they fill."""
        if draws == 1:
            return SLOTS
        return max((block for block in self.draw_blocks if block <= draws), default=self.draw_blocks[0])

    def draw(self, states: Tensor, rows: Sequence[int], noise: Tensor) -> tuple[list[TokenIds], np.ndarray]:
        draws_of = Counter(rows)
        tables, order = [], []
        for block in (SLOTS, *self.draw_blocks):
            indices = [i for i, row in enumerate(rows) if self._block_of(draws_of[row]) == block]
            order += indices
            for start in range(0, len(indices), block):
                part = indices[start : start + block]
                part_noise = noise if len(part) == len(noise) else noise[part]
                size = next(size for size in self.graphs if size >= len(part)) if block == SLOTS else block
                table = self.graphs[size](states, torch.tensor([rows[i] for i in part]), part_noise)
                tables.append(table[: len(part)].cpu())
        return self.split(torch.cat(tables)[np.argsort(order)])


class ModuleHeadStep(BlockHeadStep):
    """Uses the model's PyTorch modules, whose numbers depend on the size of a block in the last bits."""

    def __init__(self, model: CalmModel):
        super().__init__(model)
        if isinstance(model, EnergyTransformer):
            self.free_draws = 1  # as with the kernels, so that both choose the same chunks
        parameter = next(model.parameters())
        states = self.project(parameter.new_zeros(SLOTS, model.config.hidden_size))
        (noise,) = self.head.noise((1,), states, torch.Generator(parameter.device).manual_seed(0))
        self._capture((SLOTS, DRAW_BLOCK, POOL_BLOCK), states, noise)

    def project(self, hidden: Tensor) -> Tensor:
        padded = F.pad(hidden, (0, 0, 0, max(0, SLOTS - len(hidden))))
        return super().project(padded)[: len(hidden)]


class CudaGraphHeadStep(BlockHeadStep):
    """Uses fused operators on a GPU. Row-independent operators compute a single draw alone."""

    head: EnergyHead

    def __init__(self, model: EnergyTransformer):
        super().__init__(model)
        config, head, decoder = model.config, model.generative_head, model.ae_model.decoder
        hidden_act = config.autoencoder_config().hidden_act
        self.activation = ACT2FN[hidden_act]
        weight = head.hidden_embd.weight
        self.operators = select_operators(weight, hidden_act)
        blocks = [cast(HeadBlock, block) for block in head.mlp_blocks]
        width, self.conditions = config.hidden_size, _condition_weights(blocks)
        self.blocks = [HeadBlockWeights.of(block) for block in blocks]
        layers = [cast(AutoencoderLayer, layer) for layer in decoder.decoder_layers]
        self.layers = [
            (
                Norm.of(layer.layernorm),
                fuse_linears(layer.mlp.gate_proj, layer.mlp.up_proj),
                Linear.of(layer.mlp.down_proj),
            )
            for layer in layers
        ]
        sizes = (1, SLOTS, DRAW_BLOCK) if self.operators.ROW_INDEPENDENT else (SLOTS, DRAW_BLOCK)
        self._capture(sizes, weight.new_zeros(SLOTS, len(blocks), width), weight.new_zeros(self.head.noise_shape))

    def embed(self, chunks: Tensor) -> Tensor:
        first, _, second, norm = self.model.embed_proj
        x = self.model.transformer.embed_tokens(chunks).flatten(-2)
        linear = self.operators.linear
        return Norm.of(norm)(linear(linear(x, Linear.of(first), activation=F.silu), Linear.of(second)))

    def project(self, hidden: Tensor) -> Tensor:
        head, linear = self.head, self.operators.linear
        x = linear(linear(hidden, Linear.of(head.hidden_embd)), self.conditions, Norm.of(head.norm_hidden))
        return x.unflatten(1, (len(self.blocks), -1))

    def vectors(self, states: Tensor, rows: Sequence[int] | Tensor, noise: Tensor) -> Tensor:
        conditions = states[torch.as_tensor(rows)].transpose(0, 1)
        head, linear = self.head, self.operators.linear
        x = Norm.of(head.norm_noise)(linear(noise, Linear.of(head.noise_embd)))
        for condition, (norm, mix, second, gate_up, down) in zip(conditions, self.blocks):
            y = linear(x, mix, norm, F.silu, add=condition)
            y = linear(y, second, activation=F.silu)
            x = linear(linear(y, gate_up, activation=F.silu, gated=True), down, add=x)
        final = head.final_layer
        inner = linear(x, Linear.of(final.linears[0]), Norm.of(final.in_ln), F.silu)
        return linear(inner, Linear.of(final.linears[2]))

    def decode(self, vectors: Tensor) -> Tensor:
        decoder, linear, half = self.model.ae_model.decoder, self.operators.linear, len(self.layers) // 2
        x = self._decoder_layers(linear(vectors, Linear.of(decoder.latent_to_hidden)), self.layers[:half])
        x = linear(x, Linear.of(decoder.expand_layer)).view(-1, x.shape[1])
        x = self._decoder_layers(x, self.layers[half:])
        return self.operators.argmax(x, Norm.of(decoder.norm), decoder.lm_head_weight).view(len(vectors), -1)

    def draw_one(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """One draw, for ``BackboneStep.run``: states [1, *state], noise [1, *noise_shape] -> token ids [1, K], and ids
        and vector side by side [1, K + L]. It has the block size of ``draw``, so it is the same to the bit."""
        block = min(self.graphs)
        rows = torch.zeros(block, dtype=torch.long, device=states.device)
        table = self._draw_table(states, rows, noise.expand(block, *noise.shape[1:]))[:1]
        return table[:, : self.model.config.patch_size].long(), table

    def _decoder_layers(self, x: Tensor, layers: Iterable[tuple[Norm, Linear, Linear]]) -> Tensor:
        linear = self.operators.linear
        for norm, gate_up, down in layers:
            inner = linear(x, gate_up, norm, self.activation, gated=True)
            x = linear(inner, down, add=x)
        return x


class CpuHeadStep(HeadStep):
    """Uses compiled CPU kernels."""

    head: EnergyHead

    def __init__(self, model: EnergyTransformer, kernels: ModuleType):
        super().__init__(model)
        self.kernels, self.packer = kernels, WeightPacker(model, kernels)
        head, decoder, final = model.generative_head, model.ae_model.decoder, model.generative_head.final_layer
        blocks, (wide, _, narrow, norm) = [cast(HeadBlock, block) for block in head.mlp_blocks], model.embed_proj
        self.embedding = model.transformer.embed_tokens.weight.detach().numpy()
        self.entry = *self._packed(wide), *self._packed(narrow), *Norm.of(norm).arrays
        conditions = self.packer.linear(*_condition_weights(blocks))
        self.projection = *self._packed(head.hidden_embd), *Norm.of(head.norm_hidden).arrays, *conditions
        self.reading = self.embedding, self.entry, self.projection
        last_layers = *self._packed(final.linears[0]), *self._packed(final.linears[2])
        norms = *Norm.of(head.norm_noise).arrays, *Norm.of(final.in_ln).arrays
        head_ends = *self._packed(head.noise_embd), *norms, *last_layers
        self.blocks = self.packer.stack((self._block_arrays(block) for block in blocks), len(blocks))
        first_layers = *self._packed(decoder.latent_to_hidden), *self._packed(decoder.expand_layer)
        decoder_ends = *first_layers, *Norm.of(decoder.norm).arrays
        modules = [cast(AutoencoderLayer, layer) for layer in decoder.decoder_layers]
        layers = self.packer.stack((self._layer_arrays(layer) for layer in modules), len(modules))
        self.vocabulary = self._vocabulary(decoder.lm_head_weight.detach())
        self.drawing = head_ends, self.blocks, decoder.norm.eps, decoder_ends, layers, self.vocabulary
        self.latent_size, self.patch_size = model.config.latent_size, model.config.patch_size

    def embed(self, chunks: Tensor) -> Tensor:
        x = self.embedding[chunks.numpy()].reshape(len(chunks), -1)
        x = self._linear(self._linear(x, self.entry[:2], activated=True), self.entry[2:4])
        return torch.from_numpy(self._layer_norm(x, *self.entry[4:]))

    def project(self, hidden: Tensor) -> Tensor:
        x = self._layer_norm(self._linear(hidden.numpy(), self.projection[:2]), *self.projection[2:4])
        return torch.from_numpy(self._linear(x, self.projection[4:])).view(len(x), -1, x.shape[1])

    def read(self, chunks: Tensor, last: np.ndarray, eps: float, backbone: tuple) -> Tensor:
        """A step of the backbone: chunks [R, K] -> head states [S, blocks, D] of the rows ``last`` [S]."""
        states = torch.empty(len(last), len(self.blocks[0]), len(self.entry[5]))
        threads, y = self.kernels.get_num_threads(), states.numpy().reshape(len(last), -1)
        self.kernels.read_chunks(chunks.numpy(), last, *self.reading, eps, backbone, threads, y)
        return states

    def draw(self, states: Tensor, rows: Sequence[int], noise: Tensor) -> tuple[list[TokenIds], np.ndarray]:
        arrays = noise.numpy(), states.numpy(), np.array(rows), self.kernels.split_work(len(noise))
        vectors, ids = self._results(len(noise))
        self.kernels.draw(*arrays, *self.drawing, vectors, ids)
        return list(map(tuple, ids.tolist())), vectors

    def run(self, state: Tensor, noise: Tensor, ends: np.ndarray, eps: float, backbone: tuple) -> tuple[Tensor, Tensor]:
        """Steps of one text that take their first draws, up to one of the tokens ``ends`` [E]: state [blocks, D], noise
        [n, noise_size] -> token ids and vectors side by side [at most n, K + L], and the state of the next draw."""
        states, steps = state[None].clone(), np.zeros(1, np.int64)
        weights, threads = (self.drawing, self.reading, eps, backbone), self.kernels.get_num_threads()
        vectors, ids = self._results(len(noise))
        self.kernels.run_chunks(noise.numpy(), states.numpy(), ends, *weights, threads, vectors, ids, steps)
        table = torch.cat((torch.from_numpy(ids).float(), torch.from_numpy(vectors)), 1)
        return table[: steps[0]], states[0]

    def _results(self, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Space for the vectors [n, L] and the token ids [n, K] of draws."""
        return np.empty((draws, self.latent_size), np.float32), np.empty((draws, self.patch_size), np.int64)

    def _vocabulary(self, embedding: Tensor) -> tuple:
        """The arguments of the argmax kernel for the vocabulary: bounds where they pay, else the packed embedding."""
        if not self.packer.uses_matrix_unit:
            bounds = self.kernels.vocabulary_bounds(embedding, self._sample_states())
            if bounds is not None:
                return bounds
        return self.packer.pack(embedding.numpy()), np.int64(len(embedding))

    @torch.inference_mode()
    def _sample_states(self) -> Tensor:
        """The decoder's states [256 K, H] for 256 chunks of random tokens."""
        config = self.model.config
        ids = torch.randint(config.vocab_size, (256, config.patch_size), generator=torch.Generator().manual_seed(0))
        return self.model.ae_model.decoder.states(self.model.ae_model.encode(ids)[0]).flatten(0, 1)

    def _linear(self, x: np.ndarray, weights: tuple[np.ndarray, ...], activated: bool = False) -> np.ndarray:
        """x [R, I] -> [R, O]."""
        y = np.empty((len(x), len(weights[1])), np.float32)
        self.kernels.linear(x, *weights, x[:0], activated, self.kernels.get_num_threads(), y)
        return y

    def _layer_norm(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        y = np.empty_like(x)
        self.kernels.layer_norm_into(x, weight, bias, y)
        return y

    def _packed(self, module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        return self.packer.linear(*Linear.of(module))

    def _block_arrays(self, block: HeadBlock) -> tuple[np.ndarray, ...]:
        _, _, second, _, third = block.linears
        width = block.mix.out_features
        mix = self.packer.linear(block.mix.weight[:, :width], None)  # the head state contains its bias
        gate_up = self.packer.halves(*Linear.of(third))
        return *Norm.of(block.in_ln).arrays, *mix, *self._packed(second), *gate_up, *self._packed(block.down_proj)

    def _layer_arrays(self, layer: AutoencoderLayer) -> tuple[np.ndarray, ...]:
        linears = map(self._packed, (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj))
        return *Norm.of(layer.layernorm).arrays, *chain.from_iterable(linears)


def _condition_weights(blocks: Iterable[HeadBlock]) -> Linear:
    """One map of the columns that read the condition, for all blocks' first layers. The others read the noise path."""
    mixes = fuse_linears(*(block.mix for block in blocks))  # [blocks * D, 2 D]: noise path, then condition
    return Linear(mixes.weight[:, mixes.weight.shape[1] // 2 :], mixes.bias)
