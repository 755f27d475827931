"""What the autoencoder makes of a text: each chunk encoded to a vector and decoded again (paper, section 2)."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .errors import CalmError, check_seed
from .hub.language_model import LanguageModel


@dataclass(frozen=True)
class Chunk:
    """One chunk of a text and what came back of it."""

    token_ids: list[int]
    decoded_ids: list[int]
    text: str
    decoded_text: str
    mean: np.ndarray
    """float32 [L], the posterior's mean (before any noise)."""
    std: np.ndarray
    """float32 [L], the posterior's standard deviation."""
    exact: bool
    """Whether all K tokens were restored."""


@dataclass(frozen=True)
class Reconstruction:
    chunks: list[Chunk]
    token_accuracy: float
    """Share of the text's tokens that were restored, in [0, 1]; padding is not counted."""
    chunk_accuracy: float
    """Share of chunks restored whole."""
    tokens: int


@torch.no_grad()
def reconstruct(lm: LanguageModel, text: str, noise: float = 0.0, seed: int = 0) -> Reconstruction:
    """Encodes and decodes a text, chunk by chunk.

    ``noise`` is the standard deviation of Gaussian noise added to each posterior mean before decoding. The last chunk
    is filled with padding tokens, which do not count. Raises CalmError for an empty text, a model without an
    autoencoder, noise that is not a number of at least 0, or a seed that is not a whole one.
    """
    autoencoder = lm.calm.ae_model
    if not isinstance(noise, (int, float)) or not 0 <= noise < float("inf"):
        raise CalmError(f"The noise must be a number of at least 0, not {noise!r}.")
    check_seed(seed)
    ids = lm.tokenize(text)
    if not ids:
        raise CalmError("There is no text to reconstruct: type at least one character.")
    k = lm.chunk_size
    padded = torch.tensor(ids + [lm.pad_id] * (-len(ids) % k), device=lm.device).view(-1, k)
    mean, std = autoencoder.encode(padded)
    generator = torch.Generator(lm.device).manual_seed(seed)
    disturbance = torch.randn(mean.shape, generator=generator, device=lm.device).to(mean.dtype)
    decoded = autoencoder.decode(mean + noise * disturbance)
    right = (decoded == padded).flatten()[: len(ids)]
    means, stds = mean.float().cpu().numpy(), std.float().cpu().numpy()
    chunks = []
    for i, (before, after) in enumerate(zip(padded.tolist(), decoded.tolist())):
        size = min(k, len(ids) - i * k)
        before, after = before[:size], after[:size]
        chunks.append(
            Chunk(before, after, lm.detokenize(before), lm.detokenize(after), means[i], stds[i], before == after)
        )
    return Reconstruction(chunks, float(right.float().mean()), sum(c.exact for c in chunks) / len(chunks), len(ids))


def robustness(
    lm: LanguageModel, text: str, noises: Sequence[float], draws: int = 4, seed: int = 0
) -> Generator[tuple[float, float], None, None]:
    """For each standard deviation of noise the share of a text's tokens that are restored, the mean of ``draws`` draws.

    Raises CalmError as ``reconstruct`` does, while iterating.
    """
    for noise in noises:
        found = [reconstruct(lm, text, noise, seed + i).token_accuracy for i in range(draws)]
        yield noise, sum(found) / draws


@torch.no_grad()
def decode(lm: LanguageModel, vectors: np.ndarray) -> list[list[int]]:
    """Latent vectors [n, L] -> the K token ids that each decodes to.

    Raises CalmError for a token-by-token model, and for vectors of another length or that are not finite.
    """
    width = lm.calm.config.latent_size
    if vectors.ndim != 2 or vectors.shape[1] != width or not np.isfinite(vectors).all():
        raise CalmError(f"A vector must be {width} finite numbers.")
    return lm.calm.ae_model.decode(torch.from_numpy(vectors.astype(np.float32)).to(lm.device, lm.dtype)).tolist()
