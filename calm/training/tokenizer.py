"""Byte-level BPE with the official checkpoints' special ids: begin of text 0, end of text 1, padding last."""

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..data.documents import read_documents
from ..files import filling
from .settings import TokenizerSettings

BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "[PAD]"


def _texts(settings: TokenizerSettings) -> Iterator[str]:
    """The documents of all sources, of each up to ``settings.characters`` characters."""
    for source in settings.sources:
        characters = 0
        for text in read_documents(source):
            yield text
            characters += len(text)
            if settings.characters and characters >= settings.characters:
                break


def train(settings: TokenizerSettings) -> Path:
    """Trains and saves a tokenizer of exactly ``vocab_size`` ids, which restores text of any script; returns its
    folder."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size - 1,  # the padding token comes last
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(settings), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    folder = Path(settings.out)
    with filling(folder) as partial:
        tokenizer.save_pretrained(partial)
    return folder
