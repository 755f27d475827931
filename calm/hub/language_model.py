"""A loaded CALM, token-by-token model or autoencoder: network, tokenizer and device behind one interface."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from transformers import LlamaForCausalLM, LlamaModel, PreTrainedTokenizerBase

from ..errors import CalmError
from ..modeling.autoencoder import Autoencoder
from ..modeling.calm import CalmModel
from .text_format import TextFormat, end_of_text_format
from .tokenization import TextStream, replaced_labels, token_bytes, tokenize

CHUNK_TEXTS = 100_000  # entries of the cache of chunk texts


@dataclass(eq=False)
class LanguageModel:
    """A network in evaluation mode on its device, with its tokenizer."""

    name: str
    model: CalmModel | LlamaForCausalLM | Autoencoder
    tokenizer: PreTrainedTokenizerBase
    text_format: TextFormat = None  # type: ignore[assignment]
    """The format of texts: start tokens, end tokens and alignment. The default is that of models trained here."""
    _chunk_texts: dict[tuple[int, ...], str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.text_format = self.text_format or end_of_text_format(self.tokenizer)

    @property
    def is_calm(self) -> bool:
        return isinstance(self.model, CalmModel)

    @property
    def is_autoencoder(self) -> bool:
        """Whether this is an autoencoder alone: it reconstructs texts and generates none."""
        return isinstance(self.model, Autoencoder)

    @property
    def calm(self) -> CalmModel:
        """The network of a CALM. Raises CalmError for another kind of model."""
        self._check_generates()
        if not isinstance(self.model, CalmModel):
            raise CalmError(f"{self.name} works token by token and has no vectors; choose a CALM model.")
        return self.model

    @property
    def llama(self) -> LlamaForCausalLM:
        """The network of a token-by-token model. Raises CalmError for another kind of model."""
        self._check_generates()
        if not isinstance(self.model, LlamaForCausalLM):
            raise CalmError(f"{self.name} is a CALM; choose a token-by-token model.")
        return self.model

    def _check_generates(self) -> None:
        """Raises CalmError for an autoencoder alone."""
        if self.is_autoencoder:
            raise CalmError(f"{self.name} is an autoencoder, which generates no text; choose a language model.")

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder of a CALM, or the one that this is. Raises CalmError for a token-by-token model."""
        return self.model if isinstance(self.model, Autoencoder) else self.calm.ae_model

    @property
    def backbone(self) -> LlamaModel:
        """The Transformer: inputs [B, T, D] -> hidden states [B, T, D]. Raises CalmError for an autoencoder."""
        return self.calm.transformer if self.is_calm else self.llama.model

    @property
    def chunk_size(self) -> int:
        """K, the number of tokens that one step emits; 1 for a token-by-token model."""
        return 1 if isinstance(self.model, LlamaForCausalLM) else self.model.config.patch_size

    @property
    def latent_size(self) -> int:
        """L, the length of a latent vector; 0 for a token-by-token model."""
        return 0 if isinstance(self.model, LlamaForCausalLM) else self.model.config.latent_size

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def context_length(self) -> int:
        """The longest sequence in steps: chunks for a CALM, tokens for a token-by-token model. Raises CalmError for an
        autoencoder."""
        self._check_generates()
        return self.model.config.max_position_embeddings

    @property
    def num_parameters(self) -> int:
        """Number of parameters, the autoencoder included. A shared parameter counts once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def pad_id(self) -> int:
        """The token that fills an incomplete chunk: the padding token, or end-of-text if the tokenizer has none."""
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else self.tokenizer.eos_token_id

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text. It never holds special tokens: ``<|end_of_text|>`` in a text is text.

        Raises CalmError for a text with half of a surrogate pair.
        """
        return tokenize(self.tokenizer, [text])[0]

    def detokenize(self, ids: list[int]) -> str:
        """The text of token ids. Special tokens are left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def chunk_text(self, chunk: tuple[int, ...]) -> str:
        """The text of one chunk of token ids. It is cached, because samples repeat the same chunks."""
        if chunk not in self._chunk_texts:
            if len(self._chunk_texts) >= CHUNK_TEXTS:
                self._chunk_texts.clear()
            self._chunk_texts[chunk] = self.detokenize(list(chunk))
        return self._chunk_texts[chunk]

    @cached_property
    def _bytes_of(self) -> Callable[[int], bytes]:
        return token_bytes(self.tokenizer)

    def token_bytes(self, ids: Iterable[int]) -> bytes:
        """The UTF-8 bytes of token ids. Special tokens are left out."""
        return b"".join(map(self._bytes_of, ids))

    def label(self, ids: Sequence[int], before: Sequence[int] = ()) -> str:
        """A label for token ids by themselves: their text, with bytes of an incomplete character in hexadecimal.

        If the tokens complete a character that the ids ``before`` started, it is shown as such: ``🙂 (2/2)``.
        """
        pieces = [self.token_bytes([i]) for i in before]
        return replaced_labels(pieces, len(pieces), len(pieces), [self.token_bytes(ids)])[0]

    def token_labels(self, ids: Sequence[int], before: Sequence[int] = ()) -> list[str]:
        """A label for each of the tokens by itself (see ``tokenization.labels``)."""
        pieces = [self.token_bytes([i]) for i in before]
        return replaced_labels(pieces, len(pieces), len(pieces), [self.token_bytes([i]) for i in ids])

    def text_stream(self) -> TextStream:
        """Detokenizes a growing sequence of tokens."""
        return TextStream(self.token_bytes)
