"""From the hidden state of a place to candidate chunks: the energy head draws vectors, the autoencoder decodes them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from types import ModuleType
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from ..modeling.autoencoder import Layer
from ..modeling.calm import EnergyTransformer
from ..modeling.heads.energy import HeadBlock
from .backbone import Reader, kernels_for
from .ops.cuda_graphs import Recording
from .ops.torch_ops import Linear, Norm, fuse, operators_for

ROWS = 8  # chunks that are read at once while texts are written: as many as an engine has slots
BLOCK = 32  # draws that a GPU makes at once

Chunk = tuple[int, ...]


class Drawer:
    """What generation needs of a CALM besides its backbone, by the modules of the model."""

    at_once = 1
    """Draws of one place that cost no more than one."""

    def __init__(self, model: EnergyTransformer):
        self.model, self.head = model, model.generative_head  # looked up once: a module searches for it each time

    def embed(self, chunks: Tensor) -> Tensor:
        """chunks [R, K] -> backbone inputs [R, D]. No fewer than ``ROWS`` are computed, so that the numbers of a row do
        not depend on how many others are read in the same step."""
        filled = F.pad(chunks, (0, 0, 0, max(0, ROWS - len(chunks))))
        return self.model.embed(filled)[: len(chunks)]

    def project(self, hidden: Tensor) -> Tensor:
        """hidden [R, D] -> what the blocks of the head need of it [R, blocks, D], for any number of draws."""
        return self.head.project(hidden).transpose(0, 1)

    def vectors(self, states: Tensor, places: Sequence[int] | Tensor, noise: Tensor) -> Tensor:
        """A draw [n, L] for each noise vector [n, noise_size], from the n-th of ``places`` in states [R, blocks, D], as
        ``project`` makes them."""
        return self.head.draw(states[torch.as_tensor(places)].transpose(0, 1), noise)

    def decode(self, vectors: Tensor) -> Tensor:
        """vectors [n, L] -> the likeliest token ids [n, K]."""
        return self.model.ae_model.decode(vectors)

    def draw(self, states: Tensor, places: Sequence[int], noise: Tensor) -> tuple[list[Chunk], np.ndarray]:
        """The same draws: chunks of K token ids, and the vectors, float32 [n, L], that they were decoded from."""
        vectors = self.vectors(states, places, noise)
        return list(map(tuple, self.decode(vectors).tolist())), vectors.float().cpu().numpy()


def make_drawer(model: EnergyTransformer, interim: bool = False) -> Drawer:
    """The quickest drawer for the device, number format and activation of a model; without kernels for the interim."""
    parameter = next(model.parameters())
    kernels = None if interim else kernels_for(parameter, model.config.autoencoder_config().hidden_act)
    return CompiledDrawer(model, kernels) if kernels else RecordedDrawer(model) if parameter.is_cuda else Drawer(model)


class RecordedDrawer(Drawer):
    """The same for a GPU, where many draws cost little more than one: by operators, recorded.

    Always as many rows are computed at once, ``ROWS`` where a place wants one draw and ``BLOCK`` where it wants more,
    so that a draw does not depend on how many others are made beside it. One row alone is computed alone where the
    operators make no difference.
    """

    at_once = BLOCK

    def __init__(self, model: EnergyTransformer):
        super().__init__(model)
        config, head, decoder = model.config, model.generative_head, model.ae_model.decoder
        self.activation = ACT2FN[config.autoencoder_config().hidden_act]
        weight = head.hidden_embd.weight
        self.operators = operators_for(weight, config.autoencoder_config().hidden_act)
        blocks = [cast(HeadBlock, block) for block in head.mlp_blocks]
        width, self.conditions = config.hidden_size, _conditions(blocks)
        self.blocks = [
            (
                Norm.of(block.in_ln),
                Linear(block.mix.weight[:, :width]),
                *map(Linear.of, (block.linears[2], block.linears[4], block.down_proj)),
            )
            for block in blocks
        ]
        layers = [cast(Layer, layer) for layer in decoder.decoder_layers]
        self.layers = [
            (Norm.of(layer.layernorm), fuse(layer.mlp.gate_proj, layer.mlp.up_proj), Linear.of(layer.mlp.down_proj))
            for layer in layers
        ]
        states = weight.new_zeros(ROWS, len(blocks), width)
        self.recorded: dict[int, Recording[Tensor]] = {}
        for rows in (1, ROWS, BLOCK) if self.operators.INDEPENDENT else (ROWS, BLOCK):
            places = torch.zeros(rows, dtype=torch.long, device=weight.device)
            self.recorded[rows] = Recording(self._rows, states, places, weight.new_zeros(rows, config.noise_size))

    def embed(self, chunks: Tensor) -> Tensor:
        first, _, second, norm = self.model.embed_proj
        x = self.model.transformer.embed_tokens(chunks).flatten(-2)
        product = self.operators.product
        return Norm.of(norm)(product(product(x, Linear.of(first), activation=F.silu), Linear.of(second)))

    def project(self, hidden: Tensor) -> Tensor:
        head, product = self.head, self.operators.product
        x = product(product(hidden, Linear.of(head.hidden_embd)), self.conditions, Norm.of(head.norm_hidden))
        return x.unflatten(1, (len(self.blocks), -1))

    def vectors(self, states: Tensor, places: Sequence[int] | Tensor, noise: Tensor) -> Tensor:
        conditions = states[torch.as_tensor(places)].transpose(0, 1)
        head, product = self.head, self.operators.product
        x = Norm.of(head.norm_noise)(product(noise, Linear.of(head.noise_embd)))
        for condition, (norm, mix, second, third, down) in zip(conditions, self.blocks):
            y = product(x, mix, norm, F.silu, add=condition)
            y = product(y, second, activation=F.silu)
            x = product(product(y, third, activation=F.silu, gated=True), down, add=x)
        final = head.final_layer
        return product(
            product(x, Linear.of(final.linears[0]), Norm.of(final.in_ln), F.silu), Linear.of(final.linears[2])
        )

    def decode(self, vectors: Tensor) -> Tensor:
        decoder, product, half = self.model.ae_model.decoder, self.operators.product, len(self.layers) // 2
        x = self._layers(product(vectors, Linear.of(decoder.latent_to_hidden)), self.layers[:half])
        x = product(x, Linear.of(decoder.expand_layer)).view(-1, x.shape[1])
        x = self._layers(x, self.layers[half:])
        return self.operators.likeliest(x, Norm.of(decoder.norm), decoder.lm_head_weight).view(len(vectors), -1)

    def _layers(self, x: Tensor, layers: Iterable[tuple[Norm, Linear, Linear]]) -> Tensor:
        product = self.operators.product
        for norm, gate_up, down in layers:
            inner = product(x, gate_up, norm, self.activation, gated=True)
            x = product(inner, down, add=x)
        return x

    def _rows(self, states: Tensor, places: Tensor, noise: Tensor) -> Tensor:
        """states [R, blocks, D], places and noise of n draws -> ids and, behind them, vectors [n, K + L]."""
        vectors = self.vectors(states, places, noise)
        return torch.cat((self.decode(vectors).float(), vectors.float()), 1)  # float32 holds whole numbers up to 2^24

    def draw(self, states: Tensor, places: Sequence[int], noise: Tensor) -> tuple[list[Chunk], np.ndarray]:
        wanted = Counter(places)
        found, order = [], []
        for rows, alone in ((ROWS, True), (BLOCK, False)):
            here = [i for i, place in enumerate(places) if (wanted[place] == 1) == alone]
            order += here
            for start in range(0, len(here), rows):
                some = here[start : start + rows]
                given = noise if len(some) == len(noise) else noise[some]
                size = next(size for size in self.recorded if size >= len(some)) if alone else rows
                drawn = self.recorded[size](states, torch.tensor([places[i] for i in some]), given)
                found.append(drawn[: len(some)].cpu())
        table = torch.cat(found)[np.argsort(order)]
        ids, vectors = table.split((self.model.config.patch_size, self.model.config.latent_size), 1)
        return list(map(tuple, ids.long().tolist())), vectors.numpy()


class CompiledDrawer(Drawer):
    """The same by compiled kernels."""

    def __init__(self, model: EnergyTransformer, kernels: ModuleType):
        super().__init__(model)
        self.kernels = kernels
        head, decoder, final = model.generative_head, model.ae_model.decoder, model.generative_head.final_layer
        self.reader = Reader(model, kernels)
        blocks, (into, _, narrower, norm) = [cast(HeadBlock, block) for block in head.mlp_blocks], model.embed_proj
        self.table = model.transformer.embed_tokens.weight.detach().numpy()
        self.embedding = self._read(into), self._read(narrower), _norm(norm)
        self.condition = self._read(head.hidden_embd), _norm(head.norm_hidden)
        self.conditions = self.reader.linear(*_conditions(blocks))
        first, last = self._read(final.linears[0]), self._read(final.linears[2])
        self.ends = *self._read(head.noise_embd), *_norm(head.norm_noise), *_norm(final.in_ln), *first, *last
        self.blocks = self.reader.stacked((self._block(block) for block in blocks), len(blocks))
        entry, expansion = self._read(decoder.latent_to_hidden), self._read(decoder.expand_layer)
        self.decoder_ends = *entry, *expansion, _weight(decoder.norm)
        layers = [cast(Layer, layer) for layer in decoder.decoder_layers]
        self.layers = self.reader.stacked((self._layer(layer) for layer in layers), len(layers))
        self.vocabulary = self._vocabulary(decoder.lm_head_weight.detach())
        self.eps = decoder.norm.eps

    def embed(self, chunks: Tensor) -> Tensor:
        k, (first, second, norm) = self.kernels, self.embedding
        x = self._linear(self.table[chunks.numpy()].reshape(len(chunks), -1), first, activated=True)
        return torch.from_numpy(k.layer_norm(self._linear(x, second), *norm))

    def project(self, hidden: Tensor) -> Tensor:
        k, (embedding, norm) = self.kernels, self.condition
        x = k.layer_norm(self._linear(hidden.numpy(), embedding), *norm)
        return torch.from_numpy(self._linear(x, self.conditions)).view(len(x), -1, x.shape[1])

    def vectors(self, states: Tensor, places: Sequence[int] | Tensor, noise: Tensor) -> Tensor:
        k, share = self.kernels, self.kernels.shared(len(noise))
        found = k.vectors(noise.numpy(), states.numpy(), np.array(places), share, self.ends, self.blocks)
        return torch.from_numpy(found)

    def decode(self, vectors: Tensor) -> Tensor:
        k, share = self.kernels, self.kernels.shared(len(vectors))
        ids = k.decode(vectors.numpy(), self.eps, share, self.decoder_ends, self.layers, self.vocabulary)
        return torch.from_numpy(ids)

    def _vocabulary(self, embedding: Tensor) -> tuple:
        """What the likeliest token is looked for in."""
        if self.reader.unit:
            return self.reader.pack(embedding.numpy()), np.int64(len(embedding))
        return self.kernels.searchable(embedding, self._some_states())

    @torch.inference_mode()
    def _some_states(self) -> Tensor:
        """The decoder's states for 256 chunks of random tokens."""
        config = self.model.config
        ids = torch.randint(config.vocab_size, (256, config.patch_size), generator=torch.Generator().manual_seed(0))
        return self.model.ae_model.decoder.states(self.model.ae_model.encode(ids)[0]).flatten(0, 1)

    def _linear(self, x: np.ndarray, linear: tuple[np.ndarray, np.ndarray], activated: bool = False) -> np.ndarray:
        """x [R, I] -> [R, O]."""
        return self.kernels.linear(x, *linear, x[:0], activated, self.kernels.get_num_threads())

    def _read(self, module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        return self.reader.linear(*Linear.of(module))

    def _block(self, block: HeadBlock) -> tuple[np.ndarray, ...]:
        _, _, second, _, third = block.linears
        width = block.mix.out_features  # the bias is in what the condition adds
        mix, halves = self.reader.linear(block.mix.weight[:, :width], None), self.reader.halved(*Linear.of(third))
        return *_norm(block.in_ln), *mix, *self._read(second), *halves, *self._read(block.down_proj)

    def _layer(self, layer: Layer) -> tuple[np.ndarray, ...]:
        maps = map(self._read, (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj))
        return _weight(layer.layernorm), *chain.from_iterable(maps)


def _conditions(blocks: Iterable[HeadBlock]) -> Linear:
    """The share of the condition in the first map of every block, as one map; the rest reads the noise path."""
    mixes = fuse(*(block.mix for block in blocks))  # [blocks * D, 2 * D]: of the noise path, of the condition
    return Linear(mixes.weight[:, mixes.weight.shape[1] // 2 :], mixes.bias)


def _weight(norm: nn.Module) -> np.ndarray:
    return Norm.of(norm).weight.detach().numpy()


def _norm(norm: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    weight, bias, _ = Norm.of(norm)
    return weight.detach().numpy(), cast(Tensor, bias).detach().numpy()
