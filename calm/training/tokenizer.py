"""Byte-level BPE, laid out as the official checkpoints': begin-of-text 0, end-of-text 1, padding last."""

from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..data.documents import read_documents

BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "[PAD]"


@dataclass
class TokenizerSettings:
    """``sources`` as in ``read_documents``; ``characters`` caps what is read of each source (0: all of it)."""

    out: str
    sources: list[str] = field(default_factory=list)
    vocab_size: int = 4096
    characters: int = 20_000_000


def train(settings: TokenizerSettings) -> Path:
    """Trains and saves a tokenizer of exactly ``vocab_size`` ids; any text of any script survives a round trip."""

    def texts():
        for source in settings.sources:
            read = 0
            for text in read_documents(source):
                yield text
                read += len(text)
                if settings.characters and read >= settings.characters:
                    break

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
    bpe.train_from_iterator(texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    out = Path(settings.out)
    tokenizer.save_pretrained(out)
    return out
