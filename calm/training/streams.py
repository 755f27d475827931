"""Training rows that other processes generate during training, where tokenizing all texts beforehand takes too long."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ..data.documents import MAKERS, numbers_of
from ..errors import CalmError
from .token_files import make_rows

BLOCK = 2048
"""Documents that a worker generates at a time."""
SEEDED = ("storyland", "primer", "prompted")
"""Source kinds in which every document has its own seed, so that workers can generate any of them independently."""


class _Blocks(Dataset):
    """Block number -> rows [R, length]. Every block holds the sources in their shares.

    ``stride`` documents lie between the starts of two rows of a block.
    """

    def __init__(self, sources: list[str], tokenizer: Any, length: int, chunk: int, seed: int, stride: int):
        for source in sources:
            if source.partition(":")[0] not in SEEDED:
                raise CalmError(f"{source!r} cannot be generated during training; {', '.join(SEEDED)} can.")
        self.sources = [(source.partition(":")[0], *numbers_of(source)) for source in sources]
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
            texts += MAKERS[kind](end - start, first + start)
        texts = [texts[i] for i in rng.permutation(len(texts))]
        eos = self.tokenizer.eos_token_id
        tokenized = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        starts = np.cumsum([0, *(len(ids) + 1 for ids in tokenized)])[:-1][:: self.stride]
        ids = np.array([token for document in tokenized for token in (*document, eos)])
        return make_rows(ids, starts, rng.integers(1, self.chunk + 1, len(starts)), self.length, eos)


def _init_worker(worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each core already has a worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the main process still finishes its step


def _identity(rows: Any) -> Any:
    return rows  # arrays go through a pipe, because containers have little shared memory


class Stream:
    """The rows of a run, made by ``workers`` processes ahead of their use from generated sources (``SEEDED``).

    Every row starts with a document; ``stride`` documents lie between the starts of two rows. With ``stride`` 1 every
    document starts a row once an epoch. Each process of a distributed run has its own workers. Raises CalmError for
    other sources.
    """

    def __init__(
        self, sources: list[str], tokenizer: Any, length: int, chunk: int, seed: int, workers: int, stride: int = 1
    ):
        self._data, self._workers = _Blocks(sources, tokenizer, length, chunk, seed, stride), workers
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
        """Batch number ``step`` of training rows [batch, length]. It depends on its number alone."""
        starts = self._data.starts
        epochs, positions = np.divmod(np.arange(step * batch, (step + 1) * batch), starts[-1])
        blocks = np.searchsorted(starts, positions, side="right") - 1
        rows = [
            self._block(int(epoch) * self._data.blocks + int(block))[position - starts[block]]
            for epoch, position, block in zip(epochs, positions, blocks)
        ]
        return np.stack(rows)
