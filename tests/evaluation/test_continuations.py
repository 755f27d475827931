"""Continuations at any temperature: known distributions give known frequencies, probabilities and scores."""

import pytest
import torch
from transformers import DynamicCache

from calm.evaluation.brier import measure_row
from calm.evaluation.continuations import Branches, ContinuationRequest, draw_continuations, without_pauses

P = torch.tensor([0.6, 0.3, 0.1])
TOKENS = torch.tensor([5, 6, 7])
TEMPERATURES = (0.5, 0.62, 1.0, 1.5)


def tempered(temperature: float) -> torch.Tensor:
    weights = P ** (1 / temperature)
    return weights / weights.sum()


def counts(tokens: torch.Tensor) -> torch.Tensor:
    """The share of each of the three tokens."""
    return (tokens[..., None] == TOKENS).float().flatten(0, -2).mean(0)


@pytest.fixture
def known_calm(tiny):
    """A CALM that draws the chunk 5555, 6666 or 7777 with the probabilities ``P`` at every position."""
    lm = tiny(4)
    lm.calm.generative_head.draw = lambda states, noise, rows=None: noise[..., :1] + 0.5  # uniform on [0, 1)
    lm.calm.ae_model.decode = lambda vectors: TOKENS[torch.bucketize(vectors, P.cumsum(0), right=True)].expand(
        *vectors.shape[:-1], 4
    )
    return lm


@pytest.fixture
def known_tokens(tiny_ar):
    """A token-by-token model that draws the token 5, 6 or 7 with the probabilities ``P``."""

    class Head(torch.nn.Module):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            logits = torch.full((*states.shape[:-1], 20), -torch.inf)
            logits[..., TOKENS] = P.log()
            return logits

    tiny_ar.llama.lm_head = Head()
    return tiny_ar


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_calm_chooses_chunks_of_the_tempered_distribution(known_calm, temperature):
    generator = torch.Generator().manual_seed(0)
    drawn = without_pauses(
        draw_continuations(known_calm, ContinuationRequest([5] * 204, 4, 4, 16, temperature), generator)
    )
    assert drawn.tokens.shape == (16, 50, 4) and (drawn.tokens == drawn.tokens[..., :1]).all()
    assert drawn.probabilities is None
    assert counts(drawn.tokens[..., :1]) == pytest.approx(tempered(temperature), abs=0.04)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_token_model_has_exact_probabilities(known_tokens, temperature):
    generator = torch.Generator().manual_seed(0)
    drawn = without_pauses(
        draw_continuations(known_tokens, ContinuationRequest([0] + [6] * 40, 1, 4, 32, temperature), generator)
    )
    expected = tempered(temperature)
    assert counts(drawn.tokens) == pytest.approx(expected, abs=0.04)
    assert torch.allclose(drawn.probabilities, expected[drawn.tokens - 5])
    assert torch.allclose(drawn.probabilities_of_text, expected[1])


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_score_of_a_known_distribution_has_its_closed_form(known_calm, known_tokens, temperature):
    """Of a text of token 5: 2 p_T(5) - sum p_T^2 for chunks, and for tokens 2 p_T(5)^n - (sum p_T^2)^n."""
    p = tempered(temperature)
    generator = torch.Generator().manual_seed(0)
    chunks = without_pauses(measure_row(known_calm, ContinuationRequest([5] * 204, 4, 4, 16, temperature), generator))
    assert chunks[:4] / chunks[4] == pytest.approx([float(2 * p[0] - p @ p)] * 4, abs=0.03)
    tokens = without_pauses(
        measure_row(known_tokens, ContinuationRequest([0] + [5] * 40, 1, 4, 64, temperature), generator)
    )
    closed = [float(2 * p[0] ** n - (p @ p) ** n) for n in (1, 2, 3, 4)]
    assert tokens[:4] / tokens[4] == pytest.approx(closed, abs=0.03)


def test_branches_see_the_text_up_to_their_position(tiny):
    """Branches together equal separate forward passes over text and branch, and do not change the cache of the text."""
    lm = tiny(2)
    model, k = lm.calm, 2
    ids = (torch.arange(12) * 31 % 500).view(1, 6, k)
    positions = torch.tensor([0, 2, 5])
    branch = [(torch.arange(3 * k) * 17 % 500).view(3, k), (torch.arange(3 * k) * 11 % 500).view(3, k)]
    with torch.no_grad():
        cache = DynamicCache()
        model.transformer(inputs_embeds=model.embed(ids), past_key_values=cache, use_cache=True)
        for _ in range(2):  # the second sample continues the same text
            branches = Branches(model.transformer, cache, positions)
            for step, chunks in enumerate(branch, 1):
                together = branches.step(model.embed(chunks))
                for i, position in enumerate(positions.tolist()):
                    alone = torch.cat([ids[0, : position + 1], *(b[i : i + 1] for b in branch[:step])])[None]
                    hidden = model.transformer(inputs_embeds=model.embed(alone)).last_hidden_state[0, -1]
                    assert torch.allclose(together[i], hidden, atol=1e-5)
