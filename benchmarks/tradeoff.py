"""Accuracy against diversity for four methods that sharpen samples (paper, section 7.5, figures 10 and 11).

    python -m benchmarks.tradeoff [--model story-k4] [--rival story-ar] [--texts 30] [--out docs/tradeoff.png] [--json]

At the chunk boundaries of held-out stories, the program estimates the probability that a draw equals the next n tokens
(accuracy) and that two draws are equal (collision rate), each as the geometric mean over n = 1 to 4. The methods: our
continuous temperature; the published rule for T = 1/3 with growing pools; less noise for the energy head (future work
in the paper, section 8); the softmax temperature of a token-by-token model. The picture needs Chromium.
"""

import argparse
import json
from pathlib import Path

import plotly.graph_objects as go
import torch
from torch import Tensor

import calm
from calm.engine import engine_for
from calm.engine.samplers import ChunkSampler, sample_chunk
from calm.evaluation.brier import MAX_ORDER, accuracy_and_collisions, geometric_mean
from calm.storyland import stories

from .picture import save

TEMPERATURES = (1.0, 0.8, 0.62, 0.5, 0.4, 0.3)
POOLS = (1, 10, 20, 50, 100, 200, 500)
NOISES = (1.0, 0.8, 0.6, 0.4, 0.2)
CALM_SAMPLES, TOKEN_SAMPLES = 8, 4  # draws per position
OURS, PUBLISHED, NOISE = "continuous temperature", "published rule, T = 1/3, N draws", "noise times"

Rates = tuple[float, float]
"""Accuracy and collision rate in percent."""

Contexts = list[tuple[list[int], list[int]]]
"""The token ids of each text, and the positions at which the next four tokens are compared."""


def rates(samples: Tensor, targets: Tensor) -> Rates:
    """samples [S, P, 4] token ids at P positions, targets [P, 4] of the text -> accuracy and collision rate, %."""
    parts = (part.mean(0).numpy() for part in accuracy_and_collisions(samples, targets))
    accuracy, collision = (float(geometric_mean(part)) for part in parts)
    return accuracy, collision


def contexts_of(lm: calm.LanguageModel, texts: list[str], stride: int) -> Contexts:
    """The contexts of texts, with a position every ``stride`` tokens."""
    return [(ids, list(range(0, len(ids) - MAX_ORDER + 1, stride))) for ids in map(lm.tokenize, texts)]


def targets(contexts: Contexts) -> Tensor:
    """The next four token ids of the text at each position [P, 4]."""
    return torch.tensor([ids[i : i + MAX_ORDER] for ids, positions in contexts for i in positions])


def hidden_states(lm: calm.LanguageModel, contexts: Contexts) -> Tensor:
    """The hidden states [P, D] of a CALM at all positions, which must be chunk boundaries."""
    k, states = lm.chunk_size, []
    for ids, positions in contexts:
        tokens = torch.tensor([[lm.tokenizer.eos_token_id] * k + ids[: positions[-1]]], device=lm.device)
        states.append(lm.calm(tokens, use_cache=False)[0])
    return torch.cat(states)


def generated(lm: calm.LanguageModel, contexts: Contexts, temperature: float, seed: int) -> Tensor:
    """The next four token ids [P, 4] of a token-by-token model at each position; -1 after the end of a text."""
    chunks = []
    for ids, positions in contexts:
        for position in positions:
            prefix = [[i] for i in ids[:position]]
            steps = list(calm.generate(lm, "", temperature, max_new_tokens=MAX_ORDER, seed=seed, prefix_chunks=prefix))
            chunks.append([step.token_ids[0] for step in steps] + [-1] * (MAX_ORDER - len(steps)))
    return torch.tensor(chunks)


@torch.inference_mode()
def of_calm(lm: calm.LanguageModel, texts: list[str]) -> dict[str, dict[float, Rates]]:
    """The rates of a CALM with K of 4 or more, for each method and each of its settings."""
    model, k, head_step = lm.calm, lm.chunk_size, engine_for(lm).head
    head, generator = model.generative_head, torch.Generator(lm.device).manual_seed(0)
    assert head_step and k >= MAX_ORDER
    contexts = contexts_of(lm, texts, k)
    expected, hidden = targets(contexts), hidden_states(lm, contexts)

    def tempered(temperature: float, pool: int, name: str) -> Rates:
        samplers = [ChunkSampler(temperature, pool, name, seed, lm.device) for seed in range(CALM_SAMPLES)]
        drawn = [
            [sample_chunk(head_step, state, sampler).token_ids[:MAX_ORDER] for state in hidden] for sampler in samplers
        ]
        return rates(torch.tensor(drawn), expected)

    def less_noise(scale: float) -> Rates:
        noise = scale * head.noise((CALM_SAMPLES, len(hidden)), hidden, generator)
        drawn = [model.ae_model.decode(head(hidden, each)) for each in noise]
        return rates(torch.stack(drawn)[..., :MAX_ORDER].cpu(), expected)

    return {
        OURS: {t: tempered(t, 200, "auto") for t in TEMPERATURES},
        PUBLISHED: {n: tempered(1 / 3, n, "pooled") for n in POOLS},
        NOISE: {scale: less_noise(scale) for scale in NOISES},
    }


def token_by_token(lm: calm.LanguageModel, texts: list[str], stride: int) -> dict[float, Rates]:
    """The rates at each softmax temperature, at the same positions."""
    contexts = contexts_of(lm, texts, stride)
    expected = targets(contexts)

    def at(temperature: float) -> Rates:
        return rates(
            torch.stack([generated(lm, contexts, temperature, seed) for seed in range(TOKEN_SAMPLES)]), expected
        )

    return {t: at(t) for t in TEMPERATURES}


def picture(methods: dict[str, dict[float, Rates]], path: Path) -> None:
    figure = go.Figure()
    styles = (
        ("#2563eb", "circle", "solid"),
        ("#64748b", "square-open", "dot"),
        ("#64748b", "x", "dash"),
        ("#b5540b", "diamond-open", "dot"),
    )
    for (name, settings), (colour, symbol, dash) in zip(methods.items(), styles):
        accuracy, collision = zip(*settings.values())
        figure.add_scatter(
            x=collision, y=accuracy, name=name, mode="lines+markers", line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 9},
        )  # fmt: skip
    figure.update_xaxes(title="collision rate, %: less diverse")
    figure.update_yaxes(title="accuracy, %")
    figure.update_layout(margin={"t": 20, "r": 20}, legend={"x": 0.98, "y": 0.05, "xanchor": "right"})
    save(figure, path, 760, 460)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="story-k4")
    parser.add_argument("--rival", default="story-ar")
    parser.add_argument("--texts", type=int, default=30)
    parser.add_argument("--out", help="a PNG of the picture")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    lm, rival = calm.load(arguments.model), calm.load(arguments.rival)
    texts = list(stories("cost_benchmark", arguments.texts))
    methods = of_calm(lm, texts) | {f"{rival.name}, softmax temperature": token_by_token(rival, texts, lm.chunk_size)}
    if arguments.out:
        picture(methods, Path(arguments.out))
    if arguments.json:
        print(json.dumps(methods))
        return
    for name, settings in methods.items():
        for setting, (accuracy, collision) in settings.items():
            print(f"{name:34} {setting:6g}   accuracy {accuracy:5.1f} %   collision rate {collision:5.1f} %")


if __name__ == "__main__":
    main()
