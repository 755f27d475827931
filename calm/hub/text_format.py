"""The format of a model's training texts: which tokens start and end a text, and where its chunks begin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

FRONT, END, CONDITION = ALIGNMENTS = "front", "end", "condition"
"""The alignments of a prompt whose length is not a multiple of K (``calm.generate``)."""
BEGIN_OF_TEXT, END_OF_TEXT = "begin-of-text", "end-of-text"
"""Values of the field ``text_start`` of a checkpoint's config.json."""


@dataclass(frozen=True)
class TextFormat:
    """The format of a model's training texts; ``LanguageModel.text_format`` holds it."""

    start_id: int
    """The token in front of a text."""
    end_ids: frozenset[int]
    """Tokens that end a text. Where texts follow one another in a row, the start of the next one ends a text."""
    single_start: bool = False
    """Whether exactly one start token precedes a text; otherwise one to K of them, so that chunks begin anywhere."""
    alignment: str = FRONT
    """The alignment that makes a prompt look like a training text."""

    def start(self, chunk_size: int) -> list[int]:
        """The start tokens of a text that has a position for the chunk after them."""
        return [self.start_id] * (1 if self.single_start else chunk_size)

    def end_position(self, token_ids: Sequence[int]) -> int | None:
        """The index of the first end token; None without one."""
        return next((i for i, token in enumerate(token_ids) if token in self.end_ids), None)


def end_of_text_format(tokenizer: PreTrainedTokenizerBase) -> TextFormat:
    """The format of models trained here: end-of-text before and after each text."""
    return TextFormat(tokenizer.eos_token_id, frozenset([tokenizer.eos_token_id]))


def begin_of_text_format(tokenizer: PreTrainedTokenizerBase) -> TextFormat:
    """The format of official models: one begin-of-text in front of each text, and texts one after another."""
    ends = frozenset([tokenizer.bos_token_id, tokenizer.eos_token_id])
    return TextFormat(tokenizer.bos_token_id, ends, single_start=True, alignment=CONDITION)


def detect_format(config: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> TextFormat:
    """The format of a checkpoint, by its config.json and its tokenizer.

    Begin-of-text starts the texts of CALM checkpoints in the official format, of checkpoints that name it in
    ``text_start``, and of models whose tokenizer puts it in front of a text. Models trained here that were written in
    the official format name end-of-text in ``text_start``.
    """
    bos, start = tokenizer.bos_token_id, config.get("text_start")
    is_official = "patch_size" in config and config.get("model_type") != "calm"
    named = start == BEGIN_OF_TEXT or (is_official and start != END_OF_TEXT)
    if bos is not None and (named or tokenizer("")["input_ids"][:1] == [bos]):
        return begin_of_text_format(tokenizer)
    return end_of_text_format(tokenizer)
