"""The settings of each kind of run, with their defaults. ``validation.parse`` makes them from a recipe."""

import math
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TokenizerSettings:
    """Settings of a tokenizer."""

    out: str
    """The folder that it is saved to."""
    sources: list[str] = field(default_factory=list)
    """Texts, as in ``calm.data.documents.read_documents``."""
    vocab_size: int = 4096
    characters: int = 20_000_000
    """Characters to read of each source at most; 0 for all of it."""


@dataclass
class LoopSettings:
    """The settings of the training loop, for any model. Optimizer defaults are the paper's (section 7.1)."""

    out: str
    """The run's folder: ``log.jsonl``, ``state.pt`` (to resume), ``best/`` and ``last/`` (models)."""
    keep_checkpoints: bool = False
    """Whether the model of every validation is kept, in ``step-N/``."""
    steps: int = 250_000
    batch_size: int = 256
    """Rows a step (chunks a step for the autoencoder), over all processes and accumulation steps."""
    accumulation_steps: int = 1
    """Gradient accumulation: parts of one process's batch that are computed one after another."""
    learning_rate: float = 3e-4
    schedule: str = "constant"
    """Shape of the learning rate after the warm-up: ``constant``, ``cosine`` (down to a twentieth) or ``linear`` (down
    to 0)."""
    warmup_steps: int = 2000
    weight_decay: float = 0.1
    beta2: float = 0.95
    muon_learning_rate: float = 0.0
    """Learning rate of Muon for hidden matrices (``calm.training.optimizers``); 0 for AdamW alone. Muon multiplies in
    bfloat16, which takes minutes a step on a CPU without bfloat16 units."""
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    """Decay a step of the exponential moving average of the weights, which is then validated and saved; 0 for the
    weights of the last step. The average reaches back over at most a tenth of the steps so far. Not with FSDP."""
    compile: bool = False
    """Whether ``torch.compile`` compiles the repeated layers, which takes about a minute at the start."""
    mixed_precision: str = "no"
    """``no``, ``bf16``, ``fp16``, or ``auto``: bf16 where the hardware multiplies bfloat16, else ``no``."""
    seed: int = 0
    log_every: int = 20
    validate_every: int = 1000
    save_every: int = 500
    max_minutes: float = math.inf
    """Minutes after which one call stops as on Ctrl-C, for machines with a time limit. The time to load counts."""

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + 60 * self.max_minutes


@dataclass
class AutoencoderSettings(LoopSettings):
    """Settings of an autoencoder. Model sizes default to those of the official 75 M autoencoder."""

    steps: int = 30_000
    batch_size: int = 131_072
    tokenizer: str = "runs/tokenizer"
    """Folder of a tokenizer, or a model (bundled name, folder or Hub id) that has it."""
    data: str = "runs/data"
    """Folder of the token files."""
    sources: dict[str, list[str]] = field(default_factory=dict)
    """Name of a token file -> its sources."""
    shares: dict[str, float] = field(default_factory=dict)
    """Name of a token file -> its weight in a batch, 1 by default."""
    valid: dict[str, list[str]] = field(default_factory=dict)
    """Name of a validation file -> its sources."""
    partial_chunks: float = 0.0
    """Share of the chunks that end early, in padding tokens, as the last chunk of a text does."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of ``AutoencoderConfig``."""
    init_from: str = ""
    """An autoencoder (or a CALM that has one) of the same shape, whose weights the run starts with."""
    distil_from: str = ""
    """An autoencoder (or a CALM that has one) of the same K and latent size, whose latent vectors a narrower one
    learns, so that it can replace it in a trained model."""
    separate_codes: bool = False
    """Whether each token of a chunk has its own L / K numbers of the vector (``calm.training.initialization``). Needs
    ``hidden_size`` equal to ``latent_size`` and divisible by K. Not with ``init_from``, ``distil_from`` or FSDP. A
    later run that starts from this autoencoder with ``init_from`` trains all weights, and so mixes the codes."""
    noise: float = 0.3
    """Standard deviation of the noise added to the mean for the noisy validation figure."""


@dataclass
class LanguageModelSettings(LoopSettings):
    """Settings of a token-by-token model, trained on rows of ``row_tokens`` tokens."""

    tokenizer: str = "runs/tokenizer"
    """Folder of a tokenizer, or a model (bundled name, folder or Hub id) that has it."""
    data: str = "runs/data"
    """Folder of the token files."""
    name: str = "text"
    """Name of the token file in ``data``."""
    sources: list[str] = field(default_factory=list)
    """Training texts, as in ``calm.data.documents.read_documents``."""
    targets_after: str = ""
    """Tokens of a document up to the end of the first occurrence of this text are read, but are no targets: the prompt
    of a story ends with a newline. Empty: all tokens are targets. Not with ``stream_workers``."""
    stream_workers: int = 0
    """Processes that generate and tokenize the ``sources`` during training; 0 to tokenize all of them before it."""
    continuations: int = 0
    """M, targets of each chunk, drawn from Storyland's exact distribution; 0 for the chunk of the row alone. Needs
    ``stream_workers``, and ``storyland`` or ``prompted`` sources. From 2 on, ``posterior_samples`` has no effect, and
    the energy head draws M samples (1 where all targets are equal) instead of ``num_samples``. Other heads use the
    first target. With ``coupled_noise`` the head always draws M samples."""
    primer: list[str] = field(default_factory=list)
    """Sources of the first ``primer_steps`` steps, tokenized to ``name``-primer."""
    primer_steps: int = 0
    valid: list[str] = field(default_factory=list)
    """Held-out texts, whose BrierLM selects the best checkpoint."""
    valid_texts: int = 40
    """The number of held-out texts to read."""
    row_tokens: int = 8192
    """Tokens of a training row, which may hold several documents. The model's context must hold a row."""
    row_stride: int = 1
    """With ``stream_workers``: documents between the starts of two rows. Where a row holds several documents, a larger
    stride keeps neighbouring rows from repeating them."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the model's configuration (``CalmConfig`` or ``LlamaConfig``)."""
    copy_init: bool = False
    """Whether initial weights copy tokens of the context (``calm.training.initialization``) instead of random ones."""
    init_from: str = ""
    """A model (bundled name, folder or Hub id) whose weights the run starts with: one of the same shape, one with fewer
    blocks in its head, or a CALM of half the width."""
    init_layers: list[int] = field(default_factory=list)
    """Layers of a deeper ``init_from`` that are kept; all of them by default."""


@dataclass
class CalmSettings(LanguageModelSettings):
    """Settings of a next-vector model. The paper's energy score compares N = 8 samples of the head with M = 100 of
    the posterior (section 3.3.2)."""

    autoencoder: str = "runs/autoencoder"
    """Folder of an autoencoder, or a CALM (bundled name, folder or Hub id) that has it."""
    new_head: bool = False
    """Whether the head starts with random weights although ``init_from`` has one of its kind."""
    init_backbone_from: str = ""
    """A model of the same widths, of another K or token by token, whose backbone the run starts with. Input projection
    and head get new initial weights."""
    head_positions: int = 0
    """Positions that the energy head learns from, of those that a process computes at a time; 0 for all of them. They
    are drawn without replacement, with weights equal to the distance of one draw from the nearest target; the logged
    loss is theirs. Needs ``continuations`` of 2 or more."""
    coupled_noise: bool = False
    """Whether each draw of the energy head has one target, which the first K numbers of its noise choose by inverse
    transform sampling (``calm.storyland.tokens.inverse_transform``). The loss is the cross-entropy of the target under
    the frozen decoder, in nats a chunk, plus 0.3 K / L times the squared distance from the target's vector; the log
    names it ``coupled``. ``posterior_samples``, ``model.num_samples`` and ``model.beta`` do not enter it.
    ``continuations`` is the number of draws at a position, each with its own target. Needs ``model.noise_size`` of at
    least K, and a head that starts after the primer. Not with ``head_positions``."""
    posterior_samples: int = 100
    """M, samples of the posterior in the energy score. With 0 the target of any head is the posterior's mean alone."""
    token_loss_weight: float = 0.0
    """Weight of the cross-entropy of the next chunk under a small token decoder, which is not saved with the model."""
    distil_from: str = ""
    """A CALM of the same width and K whose hidden states the backbone learns up to ``head_warmup_from``."""
    head_warmup_from: float = 0.0
    """Share of the run at which the head starts to learn. Up to it the backbone learns alone, by the token loss
    or from ``distil_from``."""
    joint_from: float = 0.0
    """Share of the run at which joint training starts. From ``head_warmup_from`` up to it the head learns alone, on a
    frozen backbone, without the token loss. 0: joint training starts at ``head_warmup_from``."""
    token_loss_until: float = 0.7
    """Share of the run at which the weight of the token loss has fallen to 0, linearly from ``joint_from``; it falls at
    once if this share is not above ``joint_from``."""
    corruption: float = 0.0
    """Share of the input chunks in which half of the tokens are replaced, so that the model learns to recover from its
    own errors."""
