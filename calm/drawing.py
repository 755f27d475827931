"""From the hidden state of a place to candidate chunks: the energy head draws vectors, the autoencoder decodes them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from .autoencoder import Layer
from .backbone import arrays, kernels_for, reader
from .heads import HeadBlock
from .model import EnergyTransformer
from .operators import Linear, Norm, fuse, operators_for
from .recording import Recording

ROWS = 8  # chunks that are read at once while texts are written: as many as an engine has slots
BLOCK = 32  # draws that a GPU makes at once
DRAWS = 64  # draws up to which the kernels take less time than the modules

Chunk = tuple[int, ...]


class Drawer:
    """What generation needs of a CALM besides its backbone, by the modules of the model."""

    at_once = 1
    """Draws of one place that cost no more than one."""

    def __init__(self, model: EnergyTransformer):
        self.model = model

    def embed(self, chunks: Tensor) -> Tensor:
        """chunks [R, K] -> backbone inputs [R, D]. No fewer than ``ROWS`` are computed, so that the numbers of a row do
        not depend on how many others are read in the same step."""
        filled = F.pad(chunks, (0, 0, 0, max(0, ROWS - len(chunks))))
        return self.model.embed(filled)[: len(chunks)]

    def project(self, hidden: Tensor) -> Tensor:
        """hidden [R, D] -> what the blocks of the head need of it [blocks, R, D], for any number of draws."""
        return self.model.generative_head.project(hidden)

    def vectors(self, projected: Tensor, noise: Tensor) -> Tensor:
        """projected [blocks, n, D], noise [n, noise_size] -> one draw for each noise vector [n, L]."""
        return self.model.generative_head.draw(projected, noise)

    def decode(self, vectors: Tensor) -> Tensor:
        """vectors [n, L] -> the likeliest token ids [n, K]."""
        return self.model.ae_model.decode(vectors)

    def draw(self, projected: Tensor, places: Sequence[int], noise: Tensor) -> tuple[list[Chunk], Tensor]:
        """A draw for each noise vector [n, noise_size], from the n-th of ``places`` in projected [blocks, R, D]: chunks
        of K token ids, and the vectors [n, L] that they were decoded from."""
        vectors = self.vectors(projected[:, torch.tensor(places, device=projected.device)], noise)
        return [tuple(ids) for ids in self.decode(vectors).tolist()], vectors


def make_drawer(model: EnergyTransformer) -> Drawer:
    """The quickest drawer for the device, number format and activation of a model."""
    parameter = next(model.parameters())
    kernels = kernels_for(parameter, model.config.autoencoder_config().hidden_act)
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
        mixes = fuse(*(block.mix for block in blocks))  # [blocks * D, 2 * D]: of the noise path, of the condition
        width = config.hidden_size
        self.conditions = Linear(mixes.weight[:, width:], mixes.bias)
        self.blocks = [
            (
                Norm.of(block.in_ln),
                Linear(mix[:, :width]),
                *map(Linear.of, (block.linears[2], block.linears[4], block.down_proj)),
            )
            for block, mix in zip(blocks, mixes.weight.split(width))
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
        head, product = self.model.generative_head, self.operators.product
        x = product(product(hidden, Linear.of(head.hidden_embd)), self.conditions, Norm.of(head.norm_hidden))
        return x.unflatten(1, (len(self.blocks), -1)).transpose(0, 1)

    def vectors(self, projected: Tensor, noise: Tensor) -> Tensor:
        head, product = self.model.generative_head, self.operators.product
        x = Norm.of(head.norm_noise)(product(noise, Linear.of(head.noise_embd)))
        for condition, (norm, mix, second, third, down) in zip(projected, self.blocks):
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
        vectors = self.vectors(states[places].transpose(0, 1), noise)
        return torch.cat((self.decode(vectors).float(), vectors.float()), 1)  # float32 holds whole numbers up to 2^24

    def draw(self, projected: Tensor, places: Sequence[int], noise: Tensor) -> tuple[list[Chunk], Tensor]:
        states, wanted = projected.transpose(0, 1), Counter(places)
        found, order = [], []
        for rows, alone in ((ROWS, True), (BLOCK, False)):
            here = [i for i, place in enumerate(places) if (wanted[place] == 1) == alone]
            order += here
            for start in range(0, len(here), rows):
                some = here[start : start + rows]
                given = noise if len(some) == len(noise) else noise[some]
                recorded = self.recorded[1 if len(some) == 1 and 1 in self.recorded else rows]
                found.append(recorded(states, torch.tensor([places[i] for i in some]), given)[: len(some)].cpu())
        table = torch.cat(found)[np.argsort(order)]
        ids, vectors = table.split((self.model.config.patch_size, self.model.config.latent_size), 1)
        return [tuple(row) for row in ids.long().tolist()], vectors


class CompiledDrawer(Drawer):
    """The same by compiled kernels, as long as the rows are few."""

    def __init__(self, model: EnergyTransformer, kernels: ModuleType):
        super().__init__(model)
        self.kernels = kernels
        head, decoder, final = model.generative_head, model.ae_model.decoder, model.generative_head.final_layer
        self.read = reader(model)
        (self.table,), self.embedding = arrays(model.transformer.embed_tokens.weight), self._each(model.embed_proj)
        self.condition = self._each([head.hidden_embd, head.norm_hidden])
        self.mixes = self._each(block.mix for block in head.mlp_blocks)
        self.noise = self._each([head.noise_embd, head.norm_noise])
        self.blocks = [self._block(cast(HeadBlock, block)) for block in head.mlp_blocks]
        self.final = self._each([final.in_ln, *final.linears])
        self.entry, self.expansion = self._each([decoder.latent_to_hidden, decoder.expand_layer])
        self.layers = [self._layer(cast(Layer, layer)) for layer in decoder.decoder_layers]
        self.exit = arrays(decoder.norm.weight)
        self.vocabulary = Vocabulary(decoder.lm_head_weight.detach(), kernels)
        self.eps = decoder.norm.eps

    def embed(self, chunks: Tensor) -> Tensor:
        if len(chunks) > DRAWS:
            return super().embed(chunks)
        k, (first, second, norm) = self.kernels, self.embedding
        x = k.silu(k.linear(self.table[chunks.numpy()].reshape(len(chunks), -1), *first, 0))
        return torch.from_numpy(k.layer_norm(k.linear(x, *second, 0), *norm))

    def project(self, hidden: Tensor) -> Tensor:
        if len(hidden) > DRAWS:
            return super().project(hidden)
        k, (embedding, norm) = self.kernels, self.condition
        x = k.layer_norm(k.linear(hidden.numpy(), *embedding, 0), *norm)
        return torch.from_numpy(np.stack([k.linear(x, *mix, x.shape[1]) for mix in self.mixes]))

    def vectors(self, projected: Tensor, noise: Tensor) -> Tensor:
        if len(noise) > DRAWS:
            return super().vectors(projected, noise)
        k, (embedding, norm), (final_norm, first, last) = self.kernels, self.noise, self.final
        x = k.layer_norm(k.linear(noise.numpy(), *embedding, 0), *norm)
        for condition, block in zip(projected.contiguous().numpy(), self.blocks):
            x = k.head_block(x, condition, *block)
        return torch.from_numpy(k.linear(k.silu(k.linear(k.layer_norm(x, *final_norm), *first, 0)), *last, 0))

    def decode(self, vectors: Tensor) -> Tensor:
        states = self._states(vectors) if len(vectors) <= DRAWS else self.model.ae_model.decoder.states(vectors)
        return self.vocabulary.likeliest(states.flatten(0, -2)).view(len(vectors), -1)

    def _states(self, vectors: Tensor) -> Tensor:
        """vectors [n, L] -> what the decoder makes of each token before the vocabulary [n, K, H]."""
        k, half = self.kernels, len(self.layers) // 2
        x = k.linear(vectors.numpy(), *self.entry, 0)
        for layer in self.layers[:half]:
            x = k.gated_layer(x, self.eps, *layer)
        x = k.linear(x, *self.expansion, 0).reshape(-1, x.shape[1])
        for layer in self.layers[half:]:
            x = k.gated_layer(x, self.eps, *layer)
        return torch.from_numpy(k.rms_norm(x, *self.exit, self.eps)).view(len(vectors), -1, x.shape[1])

    def _arrays(self, module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a linear map or of a norm."""
        weight, bias = cast(Tensor, module.weight), cast(Tensor | None, getattr(module, "bias", None))
        return self.read(weight) if weight.ndim > 1 else arrays(weight)[0], arrays(bias)[0]

    def _each(self, modules) -> list[tuple[np.ndarray, np.ndarray]]:
        """Those of the modules that have any."""
        return [self._arrays(module) for module in modules if hasattr(module, "weight")]

    def _halves(self, linear: nn.Linear) -> tuple[np.ndarray, ...]:
        """Weight and bias of the gates, weight and bias of the values."""
        weight, bias = self._arrays(linear)
        half = len(weight) // 2
        return weight[:half], bias[:half], weight[half:], bias[half:]

    def _block(self, block: HeadBlock) -> tuple[np.ndarray, ...]:
        mix, _, second, _, third = cast(list[nn.Linear], block.linears)
        norm, (mix_weight, _), inner = self._arrays(block.in_ln), self._arrays(mix), self._arrays(second)
        return *norm, mix_weight, *inner, *self._halves(third), *self._arrays(block.down_proj)

    def _layer(self, layer: Layer) -> tuple[np.ndarray, ...]:
        mlp = layer.mlp
        gate, up, down = self._each([mlp.gate_proj, mlp.up_proj, mlp.down_proj])
        return self._arrays(layer.layernorm)[0], *gate, *up, *down


class Vocabulary:
    """Finds the likeliest token without the product with the whole vocabulary.

    In a basis of the embedding's principal directions a quarter of the coordinates and the length of the rest bound
    each logit from above (Cauchy-Schwarz), and one logit computed in full mostly rules out all others.
    """

    SLACK = 2e-3  # of the lengths; its square exceeds what rounding takes from a bound
    FEW = 8  # states up to which the kernels bound their products in less time than the matrix library

    def __init__(self, embedding: Tensor, kernels: ModuleType):
        self.embedding, self.kernels = embedding, kernels
        directions = torch.linalg.eigh(embedding.T @ embedding).eigenvectors.flip(1)
        # One less than a quarter, with which the table's rows are as long as a product likes them.
        self.basis = directions[:, : max(1, embedding.shape[1] // 4 - 1)].T.contiguous()
        self.table = self._bounding(embedding)

    def _bounding(self, x: Tensor) -> Tensor:
        """x [R, H] -> its first coordinates and, behind them, the length of the rest [R, H / 4]."""
        near = x @ self.basis.T
        length = x.square().sum(-1, keepdim=True)
        rest = (length - near.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()
        return torch.cat((near, rest + self.SLACK * length.sqrt()), -1)

    def likeliest(self, states: Tensor) -> Tensor:
        """states [R, H] -> token ids [R]."""
        return torch.from_numpy(self.kernels.settle(self.bounds(states), states.numpy(), self.embedding.numpy()))

    def bounds(self, states: Tensor) -> np.ndarray:
        """states [R, H] -> bounds of the products with each token's row [R, V]."""
        if len(states) > self.FEW:
            return (self._bounding(states) @ self.table.T).numpy()
        return self.kernels.bound(states.numpy(), self.basis.numpy(), self.table.numpy(), np.float32(self.SLACK))
