"""Text through the autoencoder: tokens to latent vectors and back (paper, section 2)."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from .errors import CalmError, check_seed
from .hub.language_model import LanguageModel
from .hub.tokenization import labels, replaced_labels

ENCODED_AT_ONCE = 4096
"""Chunks whose activations are in memory at a time."""


@dataclass(frozen=True)
class Encoding:
    """The posteriors of n chunks: one Gaussian with a diagonal covariance per chunk."""

    token_ids: list[list[int]]
    """n chunks of K token ids, padding included."""
    mean: np.ndarray
    """float32 [n, L]"""
    std: np.ndarray
    """float32 [n, L], the standard deviations."""
    offsets: list[tuple[int, int]]
    """The characters of the chunks in the text of all tokens: the first, and the one after the last. Two chunks that
    share a character both cover it."""

    @property
    def pooled(self) -> np.ndarray:
        """float32 [L], the mean of the chunks' means: one vector for the text."""
        return self.mean.mean(0)


@dataclass(frozen=True)
class ReconstructedChunk:
    """One chunk of a text before and after the autoencoder. Padding is cut off."""

    token_ids: list[int]
    decoded_ids: list[int]
    text: str
    """The text that the chunk adds. A character that is split over chunks belongs to the one that completes it."""
    decoded_text: str
    """The text that the decoded tokens add instead. Equal to ``text`` if ``exact``."""
    label: str
    """The chunk by itself: a part of a character is shown with the number of the part: ``🙂 (1/2)``."""
    decoded_label: str
    """The decoded chunk by itself, among the chunks of the text. Bytes that are no character are shown in hexadecimal,
    ``⟨F0 9F⟩``. Equal to ``label`` if ``exact``."""
    tokens: list[str]
    """The label of each token."""
    decoded_tokens: list[str]
    """The label of each decoded token."""
    mean: np.ndarray
    """float32 [L], the mean of the posterior, before noise is added."""
    std: np.ndarray
    """float32 [L], the standard deviation of the posterior."""
    exact: bool
    """Whether all tokens were restored."""


@dataclass(frozen=True)
class Reconstruction:
    """A text before and after the autoencoder, chunk by chunk."""

    chunks: list[ReconstructedChunk]
    token_accuracy: float
    """Share of the text's tokens that were restored, in [0, 1]. Padding does not count."""
    chunk_accuracy: float
    """Share of the chunks in which all tokens were restored, in [0, 1]."""
    tokens: int
    """Number of tokens of the text."""


@torch.no_grad()
def encode(lm: LanguageModel, text: str | Sequence[Sequence[int]]) -> Encoding:
    """The posterior of each chunk of a text, or of chunks of K token ids (section 2.2).

    The last chunk of a text is filled with padding. Raises CalmError for an empty text, for chunks of another length
    or with unknown ids, and for a token-by-token model.
    """
    chunks, _ = _chunk_ids(lm, text)
    mean, std = _posteriors(lm, chunks)
    listed = chunks.tolist()
    return Encoding(listed, mean.float().cpu().numpy(), std.float().cpu().numpy(), _offsets(lm, listed))


def _offsets(lm: LanguageModel, chunks: list[list[int]]) -> list[tuple[int, int]]:
    """The span of each chunk in characters of the text of all chunks."""
    pieces = [lm.token_bytes(chunk) for chunk in chunks]
    content = np.frombuffer(b"".join(pieces), dtype=np.uint8)
    first_bytes = np.append((content & 0xC0) != 0x80, True)  # other bytes of UTF-8 continue a character
    characters = np.append(0, np.cumsum(first_bytes[:-1]))  # characters that start before each byte
    ends = np.cumsum([0, *map(len, pieces)])
    return [(int(characters[start]) - (not first_bytes[start]), int(characters[end])) for start, end in pairwise(ends)]


@torch.no_grad()
def decode(lm: LanguageModel, vectors: np.ndarray) -> list[list[int]]:
    """Latent vectors [n, L] -> the K token ids that each decodes to (argmax over the vocabulary).

    Raises CalmError for a token-by-token model, and for vectors of another length or with values that are not finite.
    """
    width = lm.autoencoder.config.latent_size
    if vectors.ndim != 2 or vectors.shape[1] != width or not np.isfinite(vectors).all():
        raise CalmError(f"A vector must be {width} finite numbers.")
    return lm.autoencoder.decode(torch.from_numpy(vectors.astype(np.float32)).to(lm.device, lm.dtype)).tolist()


@torch.no_grad()
def reconstruct(lm: LanguageModel, text: str, noise: float = 0.0, seed: int = 0) -> Reconstruction:
    """Encodes and decodes a text, chunk by chunk.

    ``noise`` is the standard deviation of Gaussian noise that is added to each posterior mean before decoding. The
    last chunk is filled with padding, which does not count. Raises CalmError for an empty text, a token-by-token
    model, noise that is not a finite number of at least 0, or a bad seed.
    """
    padded, tokens = _chunk_ids(lm, text)
    k = lm.chunk_size
    mean, std = _posteriors(lm, padded)
    decoded = _decode_with_noise(lm, mean, noise, seed)
    restored = (decoded == padded).flatten()[:tokens]
    means, stds = mean.float().cpu().numpy(), std.float().cpu().numpy()
    originals = [ids[: tokens - i * k] for i, ids in enumerate(padded.tolist())]
    restored_ids = [ids[: tokens - i * k] for i, ids in enumerate(decoded.tolist())]
    chunks = list(_chunks(lm, originals, restored_ids, means, stds))
    exact = sum(chunk.exact for chunk in chunks)
    return Reconstruction(chunks, float(restored.float().mean()), exact / len(chunks), tokens)


def robustness(
    lm: LanguageModel, text: str, noises: Sequence[float], draws: int = 4, seed: int = 0
) -> Generator[tuple[float, float], None, None]:
    """For each standard deviation of noise: (noise, share of the text's tokens restored), the mean of ``draws`` runs.

    Raises CalmError as ``reconstruct`` does, while iterating.
    """
    padded, tokens = _chunk_ids(lm, text)
    mean, _ = _posteriors(lm, padded)
    for noise in noises:
        decoded = [_decode_with_noise(lm, mean, noise, seed + i) for i in range(draws)]
        shares = [float((ids == padded).flatten()[:tokens].float().mean()) for ids in decoded]
        yield noise, sum(shares) / draws


@torch.no_grad()
def _posteriors(lm: LanguageModel, chunks: Tensor) -> tuple[Tensor, Tensor]:
    """Chunks of token ids [n, K] -> mean and standard deviation [n, L] of their posteriors."""
    mean, std = zip(*map(lm.autoencoder.encode, chunks.split(ENCODED_AT_ONCE)))
    return torch.cat(mean), torch.cat(std)


@torch.no_grad()
def _decode_with_noise(lm: LanguageModel, mean: Tensor, noise: float, seed: int) -> Tensor:
    """Token ids [n, K] of the posterior means [n, L] with Gaussian noise. Raises CalmError for bad noise or a bad
    seed."""
    if not isinstance(noise, (int, float)) or not 0 <= noise < float("inf"):
        raise CalmError(f"The noise must be a number of at least 0, not {noise!r}.")
    check_seed(seed)
    generator = torch.Generator(lm.device).manual_seed(seed)
    epsilon = torch.randn(mean.shape, generator=generator, device=lm.device).to(mean.dtype)
    return lm.autoencoder.decode(mean + noise * epsilon)


def _chunks(
    lm: LanguageModel,
    originals: Sequence[list[int]],
    restored: Sequence[list[int]],
    means: np.ndarray,
    stds: np.ndarray,
) -> Iterator[ReconstructedChunk]:
    """The chunks of a text, from their token ids before and after the autoencoder and their posteriors [n, L]."""
    pieces = [lm.token_bytes(ids) for ids in originals]
    tokens = [lm.token_bytes([i]) for ids in originals for i in ids]
    chunk_labels, token_labels, stream, start = labels(pieces), labels(tokens), lm.text_stream(), 0
    for number, (ids, decoded) in enumerate(zip(originals, restored)):
        end, last, exact = start + len(ids), number == len(originals) - 1, ids == decoded
        decoded_text, text = stream.preview(decoded, last), stream.add(ids, last)
        label = decoded_label = chunk_labels[number]
        shown = decoded_shown = token_labels[start:end]
        if not exact:
            (decoded_label,) = replaced_labels(pieces, number, number + 1, [lm.token_bytes(decoded)])
            decoded_shown = replaced_labels(tokens, start, end, [lm.token_bytes([i]) for i in decoded])
        yield ReconstructedChunk(
            token_ids=ids,
            decoded_ids=decoded,
            text=text,
            decoded_text=decoded_text,
            label=label,
            decoded_label=decoded_label,
            tokens=shown,
            decoded_tokens=decoded_shown,
            mean=means[number],
            std=stds[number],
            exact=exact,
        )
        start = end


def _chunk_ids(lm: LanguageModel, text: str | Sequence[Sequence[int]]) -> tuple[torch.Tensor, int]:
    """Token ids [n, K] of a text or of given chunks, and how many of them are not padding."""
    k, vocabulary = lm.chunk_size, lm.autoencoder.config.vocab_size
    if not isinstance(text, str):
        if not text or not all(len(chunk) == k and all(0 <= i < vocabulary for i in chunk) for chunk in text):
            raise CalmError(f"A chunk must be {k} token ids below {vocabulary:,}.")
        return torch.tensor(text, device=lm.device), len(text) * k
    ids = lm.tokenize(text)
    if not ids:
        raise CalmError("There is no text to reconstruct: type at least one character.")
    return torch.tensor(ids + [lm.pad_id] * (-len(ids) % k), device=lm.device).view(-1, k), len(ids)
