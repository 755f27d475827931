"""Rows of stories that other processes tell while a model learns from them, where tokenising all beforehand would take
as long as the training."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ..data.documents import MAKERS, lay_rows, numbers_of
from ..errors import CalmError

BLOCK = 2048
"""Documents that one process tells at a time."""
SEEDED = ("storyland", "primer", "prompted")
"""Kinds of sources whose documents have seeds of their own, so that any of them can be told without the others."""


class _Blocks(Dataset):
    """Documents of all sources, in blocks that hold the sources in their shares: block -> rows [documents, length]."""

    def __init__(self, sources: list[str], tokenizer: Any, length: int, chunk: int, seed: int):
        for source in sources:
            if source.partition(":")[0] not in SEEDED:
                raise CalmError(f"{source!r} cannot be told while a model learns; {', '.join(SEEDED)} can.")
        self.sources = [(source.partition(":")[0], *numbers_of(source)) for source in sources]
        self.tokenizer, self.length, self.chunk, self.seed = tokenizer, length, chunk, seed
        documents = sum(n for _, _, n in self.sources)
        if not documents:
            raise CalmError(f"The sources {', '.join(sources)} hold no text.")
        self.blocks = -(-documents // BLOCK)
        self.starts = np.array([sum(self._share(n, b)[0] for _, _, n in self.sources) for b in range(self.blocks + 1)])

    def _share(self, documents: int, block: int) -> tuple[int, int]:
        """Which of a source's documents a block holds."""
        return documents * block // self.blocks, documents * (block + 1) // self.blocks

    def __getitem__(self, index: int) -> np.ndarray:
        """Rows as ``TokenFile.rows`` makes them, of block ``index``, counted on through the epochs: each begins with a
        document and goes on with what follows it in the block."""
        rng = np.random.default_rng((self.seed, index))
        texts: list[str] = []
        for kind, first, documents in self.sources:
            begin, end = self._share(documents, index % self.blocks)
            texts += MAKERS[kind](end - begin, first + begin)
        texts = [texts[i] for i in rng.permutation(len(texts))]
        eos = self.tokenizer.eos_token_id
        told = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        starts = np.cumsum([0, *(len(ids) + 1 for ids in told)])[:-1]
        ids = np.array([token for document in told for token in (*document, eos)])
        return lay_rows(ids, starts, rng.integers(1, self.chunk + 1, len(texts)), self.length, eos)


def _begin(worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # all cores have a worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C lets the step that waits for a block end


def _as_it_is(rows: Any) -> Any:
    return rows  # through a pipe: memory shared with the workers is scarce in containers


class Stream:
    """The rows of a run (``storyland``, ``primer``, ``prompted``), made by ``workers`` processes ahead of their use.

    One document begins each row; all of them come once an epoch. Raises CalmError for other sources. Each process of a
    distributed run has workers of its own.
    """

    def __init__(self, sources: list[str], tokenizer: Any, length: int, chunk: int, seed: int, workers: int):
        self._data, self._workers = _Blocks(sources, tokenizer, length, chunk, seed), workers
        self._next = -1
        self._told: Iterator[np.ndarray] = iter(())
        self._held: dict[int, np.ndarray] = {}

    def _block(self, index: int) -> np.ndarray:
        if index not in self._held:
            if index != self._next:  # the first block that is wanted, or a leap, as where a run resumes
                loader = DataLoader(
                    self._data,
                    batch_size=None,
                    sampler=range(index, sys.maxsize),
                    num_workers=self._workers,
                    collate_fn=_as_it_is,
                    worker_init_fn=_begin,
                )
                self._told = iter(loader)
            self._held = {i: rows for i, rows in self._held.items() if i == index - 1} | {index: next(self._told)}
            self._next = index + 1
        return self._held[index]

    def rows(self, step: int, batch: int) -> np.ndarray:
        """Batch number ``step`` of training rows [batch, length]: the same whatever was read before."""
        starts = self._data.starts
        epochs, places = np.divmod(np.arange(step * batch, (step + 1) * batch), starts[-1])
        blocks = np.searchsorted(starts, places, side="right") - 1
        found = [
            self._block(int(epoch) * self._data.blocks + int(block))[place - starts[block]]
            for epoch, place, block in zip(epochs, places, blocks)
        ]
        return np.stack(found)
