"""The training objective of each kind of model: modules that map a batch to ``{"loss": ..., other figures}``.

Every objective is called with a batch, ``progress`` (share of the run that is done, in [0, 1)) and a generator for
noise and dropout. Shapes: B rows, T chunks a row, K tokens a chunk, L latent, D hidden, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from ..hub.loading import load
from ..modeling.autoencoder import Autoencoder
from ..modeling.calm import CalmModel
from ..modeling.losses import (
    MASKED,
    distances,
    hidden_state_distance,
    posterior_divergence,
    reconstruction_loss,
)
from ..storyland.tokens import CHOICE_UNITS
from .initialization import ATTENTION_COPY
from .settings import CalmSettings

DISTANCE_WEIGHT = 0.3
"""Weight of the squared distance from a target's vector beside its cross-entropy. The distance is the mean over the
L / K numbers of a code, summed over the K codes."""


class AutoencoderObjective(nn.Module):
    """Reconstruction plus the clamped KL divergence (paper, eqs. 1 to 4)."""

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, progress: float, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """ids [B, K] -> loss and kl, in nats a chunk."""
        outputs = self.model(ids, generator=generator)
        return {"loss": outputs["loss"], "kl": outputs["kl"]}


class AutoencoderDistillation(nn.Module):
    """Reconstruction from the latent vectors of a teacher, whose posterior the encoder learns."""

    def __init__(self, model: Autoencoder, teacher: Autoencoder):
        super().__init__()
        self.model, self.teacher = model, teacher.requires_grad_(False)

    def forward(self, ids: Tensor, progress: float, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """ids [B, K] -> loss and divergence in nats a chunk, reconstruction in nats a token."""
        mean, std = self.model.encode(ids)
        teacher_mean, teacher_std = self.teacher.encode(ids)
        divergence = posterior_divergence(mean, std, teacher_mean, teacher_std)
        # Half of the chunks are decoded from the teacher's latent vectors, half from the encoder's own.
        own = torch.rand(mean.shape[:-1], generator=generator, device=mean.device) < 0.5
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        latent = torch.where(own[..., None], mean + std * noise, teacher_mean + teacher_std * noise)
        reconstruction = reconstruction_loss(self.model.decoder(self.model.drop_latent(latent, generator)), ids)
        return {
            "loss": reconstruction + divergence,
            "reconstruction": reconstruction.detach() / ids.shape[-1],
            "divergence": divergence.detach(),
        }


class TokenDecoder(nn.Module):
    """p(token i | hidden state, tokens before i in the chunk): a training aid that is not saved with the model.

    The product over i is the likelihood of the chunk. Its gradient separates chunks long before the energy score does,
    which depends on distances alone. The backbone therefore learns early what the energy head needs.
    """

    def __init__(self, width: int, k: int):
        super().__init__()
        self.k = k
        self.state = nn.Linear(width, k * 2 * width)
        self.previous = nn.ModuleList(nn.Linear(i * width, 2 * width, bias=False) for i in range(1, k))
        self.out = nn.Linear(2 * width, width)
        # A residual path from hidden state to logits gives tokens of the context higher logits (copy initialization).
        self.copy = nn.Linear(width, k * width, bias=False)
        self.copy.weight.data = ATTENTION_COPY * torch.eye(width).repeat(k, 1)

    def forward(self, hidden: Tensor, embedded: Tensor, embedding: Tensor) -> Tensor:
        """hidden [..., D], embedded [..., K, D] (the chunk's own tokens), embedding [V, D] -> logits [..., K, V]."""
        states = list(self.state(hidden).chunk(self.k, dim=-1))
        for i, layer in enumerate(self.previous, 1):
            states[i] = states[i] + layer(embedded[..., :i, :].flatten(-2))
        outputs = self.out(F.silu(torch.stack(states, dim=-2))) + self.copy(hidden).unflatten(-1, (self.k, -1))
        return F.linear(outputs, embedding)


def corrupt(ids: Tensor, k: int, share: float, generator: torch.Generator | None) -> Tensor:
    """ids [B, T * K] with half of the tokens of a ``share`` of the chunks replaced by other tokens of the batch."""
    chunks = ids.unflatten(-1, (-1, k))
    hit = torch.rand(chunks.shape[:-1], generator=generator, device=ids.device) < share
    half = torch.rand(chunks.shape, generator=generator, device=ids.device) < 0.5
    others = ids.flatten()[torch.randint(ids.numel(), chunks.shape, generator=generator, device=ids.device)]
    return torch.where(hit[..., None] & half, others, chunks).flatten(-2)


class NextVectorObjective(nn.Module):
    """The head's loss for the next chunk's latent vector at every position of a row (paper, section 3.3), with the
    stages that ``CalmSettings`` describes: backbone alone, head on a frozen backbone, joint training."""

    def __init__(self, model: CalmModel, settings: CalmSettings):
        super().__init__()
        self.model, self.settings = model, settings
        width, k = model.config.hidden_size, model.config.patch_size
        self.decoder = TokenDecoder(width, k) if settings.token_loss_weight else None
        self.teacher = load(settings.distil_from, "cpu").calm.requires_grad_(False) if settings.distil_from else None

    def forward(
        self, ids: Tensor, progress: float, generator: torch.Generator | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """ids [B, T * K] -> loss, and those of its terms that the stage has: the head's loss under the head's name
        (``energy``, ``diffusion`` or ``flow``) or, with coupled noise, as ``coupled``; ``cross_entropy`` of the token
        decoder, in nats a token; ``distance`` from the teacher's hidden states.

        ``labels`` [B, M, T * K] are M equally likely targets in random order, ``ids`` by default. The head's loss
        leaves out chunks with a label of -100, and the cross-entropy such tokens. With coupled noise ``labels``
        [B, 2 M, T * K] hold M rows of targets, then M rows of the numbers that chose them, times ``CHOICE_UNITS``; no
        label may be -100.
        """
        model, settings = self.model, self.settings
        k = model.config.patch_size
        frozen = settings.head_warmup_from <= progress < settings.joint_from
        visible = corrupt(ids, k, settings.corruption, generator) if settings.corruption else ids
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            hidden = model(visible[:, :-k], use_cache=False)  # [B, T - 1, D]
        targets = ids[:, None] if labels is None else labels
        coupled = settings.coupled_noise and labels is not None
        if coupled:
            targets, choices = targets.chunk(2, dim=1)
            numbers = choices.unflatten(-1, (-1, k))[:, :, 1:].transpose(1, 2) / CHOICE_UNITS  # [B, T - 1, M, K]
        following = targets.unflatten(-1, (-1, k))[:, :, 1:].swapaxes(1, 2)  # [B, T - 1, M, K]
        figures: dict[str, Tensor] = {}
        loss = hidden.new_zeros(())
        if self.teacher is not None and progress < settings.head_warmup_from:
            with torch.no_grad():
                target = self.teacher(visible[:, :-k], use_cache=False)
            figures["distance"] = hidden_state_distance(hidden, target)
            loss = loss + figures["distance"]
        if progress >= settings.head_warmup_from:
            positions, chunks = hidden.flatten(0, 1), following.flatten(0, 1)
            if coupled:
                head_loss = self._coupled_loss(positions, chunks, numbers.flatten(0, 1), generator)
            else:
                if labels is not None:
                    known = (chunks != MASKED).all(-1).all(-1)
                    positions, chunks = positions[known], chunks[known]
                head_loss = self._head_loss(positions, chunks, generator)
            figures["coupled" if coupled else model.head] = head_loss
            loss = loss + head_loss
        weight = self._token_loss_weight(progress)
        if self.decoder is not None and weight and not frozen:
            figures["cross_entropy"] = self._token_loss(hidden, following, generator)
            loss = loss + weight * figures["cross_entropy"]
        return {"loss": loss, **{name: value.detach() for name, value in figures.items()}}

    def _token_loss_weight(self, progress: float) -> float:
        """The weight of the token loss: constant up to ``joint_from``, then linearly to 0 at ``token_loss_until``."""
        settings = self.settings
        decay = (progress - settings.joint_from) / max(settings.token_loss_until - settings.joint_from, 1e-9)
        return settings.token_loss_weight * min(1.0, max(0.0, 1 - decay))

    def _head_loss(self, hidden: Tensor, following: Tensor, generator: torch.Generator | None) -> Tensor:
        """hidden [P, D] and the chunks that follow [P, M, K] -> mean loss of the head; 0 without any chunk."""
        if not len(hidden):
            return hidden.sum()
        head = self.model.generative_head
        if following.shape[1] == 1:
            with torch.no_grad():
                mean, std = self.model.ae_model.encode(following[:, 0])  # [P, L]
            return head.loss(hidden, mean, std, self.settings.posterior_samples, generator).mean()
        targets = self._latents(following)
        if 0 < self.settings.head_positions < len(hidden):
            chosen = self._hard_positions(hidden, targets, generator)
            hidden, targets = hidden[chosen], targets[chosen]
        return head.loss_against(hidden, targets, generator).mean()

    @torch.no_grad()
    def _latents(self, chunks: Tensor) -> Tensor:
        """Chunks [P, M, K] -> the means of their posteriors [P, M, L]. Each different chunk is encoded once."""
        different, places = chunks.flatten(0, 1).unique(dim=0, return_inverse=True)
        return self.model.ae_model.encode(different)[0][places].unflatten(0, chunks.shape[:2])

    def _coupled_loss(
        self, hidden: Tensor, chunks: Tensor, numbers: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """hidden [P, D], chunks [P, M, K] and the numbers in [0, 1) that chose them [P, M, K] -> the cross-entropy
        in nats a chunk plus ``DISTANCE_WEIGHT`` times the squared distance (see ``CalmSettings.coupled_noise``),
        averaged over P and M."""
        head = self.model.generative_head
        noise = head.noise(chunks.shape[:2], hidden, generator)  # [P, M, noise size]
        noise = torch.cat(((numbers - 0.5).to(noise), noise[..., chunks.shape[-1] :]), -1)
        draws = head.draw(head.project(hidden)[:, None], noise)  # [P, M, L]
        distance = (draws.float() - self._latents(chunks).float()).square().mean(-1) * chunks.shape[-1]
        cross_entropy = reconstruction_loss(self.model.ae_model.decoder(draws), chunks)
        return cross_entropy + DISTANCE_WEIGHT * distance.mean()

    @torch.no_grad()
    def _hard_positions(self, hidden: Tensor, targets: Tensor, generator: torch.Generator | None) -> Tensor:
        """hidden [P, D] and targets [P, M, L] -> ``head_positions`` different positions, drawn with weights equal to
        the distance of one draw from the nearest target."""
        draws = self.model.generative_head.sample(hidden, 1, generator).movedim(0, -2).float()  # [P, 1, L]
        distance = distances(draws, targets.float()).amin((-1, -2))
        return torch.multinomial(distance, self.settings.head_positions, generator=generator)

    def _token_loss(self, hidden: Tensor, following: Tensor, generator: torch.Generator | None) -> Tensor:
        """hidden [B, T - 1, D] and the chunks that follow [B, T - 1, M, K] -> cross-entropy in nats a token.

        The decoder is shown the first of the M chunks. The target of each of its tokens is the distribution of this
        token among the chunks that agree with the first one in all earlier tokens. Tokens of -100 do not count.
        """
        assert self.decoder is not None
        embedding = self.model.transformer.embed_tokens
        shown = following[:, :, 0]
        # Embeddings of the usual initial size would be negligible beside the hidden state.
        embedded = embedding(shown.clamp(min=0)) * hidden.shape[-1] ** 0.5
        # Half of the chunks are decoded without their previous tokens, so that the hidden state itself has to hold all
        # of them, as the energy head needs, and the decoder does not model the language on its own.
        with_previous = torch.rand(shown.shape[:-1], generator=generator, device=following.device) < 0.5
        logits = self.decoder(hidden, embedded * with_previous[..., None, None], embedding.weight)
        alike = (following == shown[:, :, None])[..., :-1].cumprod(-1)  # [B, T - 1, M, K - 1]
        weights = F.pad(alike, (1, 0), value=1) * (following != MASKED)
        log_p = logits.float().log_softmax(-1).gather(-1, following.clamp(min=0).movedim(-2, -1)).movedim(-1, -2)
        known = shown != MASKED
        losses = -(weights * log_p).sum(-2) / weights.sum(-2).clamp(min=1)  # [B, T - 1, K]
        return (losses * known).sum() / known.sum().clamp(min=1)


class NextTokenObjective(nn.Module):
    """Cross-entropy of the next token. Labels of -100 do not count."""

    def __init__(self, model: LlamaForCausalLM):
        super().__init__()
        self.model = model

    def forward(
        self, ids: Tensor, progress: float, generator: torch.Generator | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """ids [B, tokens] and M labels [B, M, tokens], which are ids by default -> loss in nats a token."""
        targets = (ids[:, None] if labels is None else labels)[:, :, 1:].movedim(1, -1)  # [B, tokens - 1, M]
        log_p = self.model(ids[:, :-1], use_cache=False).logits.float().log_softmax(-1)
        known = targets != MASKED
        chosen = log_p.gather(-1, targets.clamp(min=0)) * known
        return {"loss": -chosen.sum() / known.sum().clamp(min=1)}
