"""Training rows that other processes generate during training, where tokenizing all texts beforehand takes too long."""

import os
import random
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ..data.documents import GENERATORS, seed_and_count
from ..errors import CalmError
from ..hub.tokenization import tokenize
from ..storyland.tokens import CHOICE_UNITS, TokenLanguage
from .token_files import make_rows

BLOCK = 2048
"""Documents that a worker generates at a time."""
SEEDED = ("storyland", "primer", "prompted")
"""Source kinds in which every document has its own seed, so that workers can generate any of them independently."""
EXACT = ("storyland", "prompted")
"""Source kinds whose continuations Storyland knows."""


class Blocks(Dataset):
    """Block number -> rows [R, length], or [R, 1 + continuations, length], or with choices [R, 1 + 2 * continuations,
    length]. Every block holds the sources in their shares.

    Every row starts with a document; ``stride`` documents lie between the starts of two rows. With ``stride`` 1 every
    document starts a row once an epoch. With M ``continuations``, M rows of labels follow each row: at each position a
    chunk drawn from Storyland's distribution. With ``choices``, M more rows hold the numbers that chose these chunks
    (``inverse_transform``), times ``CHOICE_UNITS``. Raises CalmError for other sources than ``SEEDED``, and with
    ``continuations`` for other sources than ``EXACT``.
    """

    def __init__(
        self,
        sources: list[str],
        tokenizer: Any,
        length: int,
        chunk: int,
        seed: int,
        stride: int = 1,
        continuations: int = 0,
        choices: bool = False,
    ):
        self.continuations, self.choices = continuations, choices
        for source in sources:
            if source.partition(":")[0] not in SEEDED:
                raise CalmError(f"{source!r} cannot be generated during training; {', '.join(SEEDED)} can.")
            if continuations and source.partition(":")[0] not in EXACT:
                raise CalmError(f"{source!r} has no known continuations; {' and '.join(EXACT)} have.")
        self.sources = [(source.partition(":")[0], *seed_and_count(source)) for source in sources]
        self.tokenizer, self.length, self.chunk, self.seed, self.stride = tokenizer, length, chunk, seed, stride
        documents = sum(n for _, _, n in self.sources)
        if not documents:
            raise CalmError(f"The sources {', '.join(sources)} hold no text.")
        self.blocks = -(-documents // BLOCK)
        counts = [-(-self._documents(block) // stride) for block in range(self.blocks)]
        self.starts = np.cumsum([0, *counts])
        """Rows before each block [blocks + 1]."""

    def _share(self, documents: int, block: int) -> tuple[int, int]:
        """First and last (exclusive) of a source's documents in a block."""
        return documents * block // self.blocks, documents * (block + 1) // self.blocks

    def _documents(self, block: int) -> int:
        shares = (self._share(n, block) for _, _, n in self.sources)
        return sum(end - start for start, end in shares)

    def __getitem__(self, index: int) -> np.ndarray:
        """Rows of block ``index`` as ``TokenFile.rows`` makes them; the index counts on through the epochs. Each row
        starts with a document and continues with the documents after it in the block."""
        rng = np.random.default_rng((self.seed, index))
        texts: list[str] = []
        for kind, first, documents in self.sources:
            start, end = self._share(documents, index % self.blocks)
            texts += GENERATORS[kind](end - start, first + start)
        texts = [texts[i] for i in rng.permutation(len(texts))]
        eos = self.tokenizer.eos_token_id
        tokenized = tokenize(self.tokenizer, texts)
        starts = np.cumsum([0, *(len(ids) + 1 for ids in tokenized)])[:-1][:: self.stride]
        ids = np.array([token for document in tokenized for token in (*document, eos)])
        rows = make_rows(ids, starts, rng.integers(1, self.chunk + 1, len(starts)), self.length, eos)
        if not self.continuations:
            return rows
        language, random_state = TokenLanguage(self.tokenizer), random.Random(int(rng.integers(2**63)))
        return np.stack([self._with_continuations(row, language, random_state) for row in rows])

    def _with_continuations(self, row: np.ndarray, language: TokenLanguage, rng: random.Random) -> np.ndarray:
        """row [length] -> [1 + continuations, length], the row first. The first chunk is no target and is repeated.
        With choices [1 + 2 * continuations, length]: then the numbers that chose the chunks, times ``CHOICE_UNITS``."""
        tokens, first = row.tolist(), row[: self.chunk]

        def rows(chunks: Any) -> list[np.ndarray]:  # [T - 1, continuations, K]
            labels = np.array(chunks).swapaxes(0, 1).reshape(self.continuations, -1)
            return [np.concatenate((first, one)) for one in labels]

        if not self.choices:
            return np.stack([row, *rows(language.draw(tokens, self.chunk, self.continuations, rng))])
        drawn = language.draw_by_choices(tokens, self.chunk, self.continuations, rng)
        chunks = [[chunk for chunk, _ in position] for position in drawn]
        numbers = [[[int(n * CHOICE_UNITS) for n in choices] for _, choices in position] for position in drawn]
        return np.stack([row, *rows(chunks), *rows(numbers)])


def _init_worker(worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each core already has a worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the main process still finishes its step


def _identity(rows: Any) -> Any:
    return rows  # arrays go through a pipe, because containers have little shared memory


class Stream:
    """The rows of a run: ``workers`` processes make its blocks ahead of their use. Each process of a distributed run
    has its own workers."""

    def __init__(self, blocks: Blocks, workers: int):
        self._data, self._workers = blocks, workers
        self._next = -1
        self._incoming: Iterator[np.ndarray] = iter(())
        self._held: dict[int, np.ndarray] = {}

    def _block(self, index: int) -> np.ndarray:
        if index not in self._held:
            if index != self._next:  # the first block of a run, which may be a resumed one
                loader = DataLoader(
                    self._data,
                    batch_size=None,
                    sampler=range(index, sys.maxsize),
                    num_workers=self._workers,
                    collate_fn=_identity,
                    worker_init_fn=_init_worker,
                )
                self._incoming = iter(loader)
            previous = {i: rows for i, rows in self._held.items() if i == index - 1}
            self._held = previous | {index: next(self._incoming)}
            self._next = index + 1
        return self._held[index]

    def rows(self, step: int, batch: int) -> np.ndarray:
        """Batch number ``step`` of training rows [batch, length], or with continuations [batch, 1 + continuations,
        length], or with choices [batch, 1 + 2 * continuations, length]. It depends on its number alone."""
        starts = self._data.starts
        epochs, positions = np.divmod(np.arange(step * batch, (step + 1) * batch), starts[-1])
        blocks = np.searchsorted(starts, positions, side="right") - 1
        rows = [
            self._block(int(epoch) * self._data.blocks + int(block))[position - starts[block]]
            for epoch, position, block in zip(epochs, positions, blocks)
        ]
        return np.stack(rows)
