"""Does BrierLM rank models trained by the energy score as it ranks those trained by cross-entropy?

python -m benchmarks.ranking MODEL... [--judge story-ar] [--texts 40] [--stories 40] [--out docs/ranking.png] [--json]

Over checkpoints of both kinds: BrierLM on held-out stories, against what a held-out judge (a token-by-token model: nats
a token of the stories that a checkpoint tells at T = 1) and Storyland's checker say of its stories, and for the
token-by-token ones against their own cross-entropy on the same held-out stories. Prints the rank correlations of all
and of each kind; the picture needs Chromium.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from plotly.subplots import make_subplots
from scipy.stats import spearmanr

import calm
from calm import storyland
from calm.evaluation.reports import generate_stories

from .picture import save

SAMPLES = 4
KINDS = {"energy": True, "cross-entropy": False}
JUDGED = {"judge": "judge, nats a token", "well_formed": "well-formed sentences", "own": "own cross-entropy, nats"}


@dataclass
class Row:
    name: str
    calm: bool
    brier_lm: float
    judge: float
    """Nats a token of its stories at T = 1, by the judge."""
    well_formed: float
    own: float | None
    """Nats a token of held-out stories, by the model itself; None for a CALM, which knows no likelihood."""


@torch.inference_mode()
def nats(lm: calm.LanguageModel, texts: list[str]) -> float:
    """Cross-entropy a token of texts, each behind an end-of-text token, under a token-by-token model."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([[lm.tokenizer.eos_token_id, *lm.tokenize(text)][: lm.context_length]])
        logits = lm.llama(ids[:, :-1]).logits[0].float()
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return total / count


def measure(name: str, judge: calm.LanguageModel, texts: list[str], stories: int) -> Row:
    lm = calm.load(name, device="cpu")
    told = generate_stories(lm, stories, 1.0)
    return Row(
        "/".join(Path(name).parts[-2:]),
        lm.is_calm,
        calm.brier_lm(lm, texts, samples=SAMPLES, bootstrap=0).score,
        nats(judge, [story for story in told if story.strip()]),
        storyland.check("\n\n".join(told)).well_formed,
        None if lm.is_calm else nats(lm, texts),
    )


def correlations(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Spearman's rank correlation of BrierLM with each judgement, over all checkpoints and over each kind."""
    groups = {"all": rows, **{kind: [row for row in rows if row.calm == calm_] for kind, calm_ in KINDS.items()}}
    found: dict[str, dict[str, float]] = {}
    for judged in JUDGED:
        found[judged] = {}
        for group, members in groups.items():
            pairs = [(row.brier_lm, getattr(row, judged)) for row in members if getattr(row, judged) is not None]
            if len(pairs) > 2 and len(pairs) == len(members):
                found[judged][group] = float(spearmanr(*zip(*pairs)).statistic)
    return found


def picture(rows: list[Row], path: Path) -> None:
    figure = make_subplots(1, 2, subplot_titles=("story-ar as judge of stories told at T = 1", "Storyland's checker"))
    looks = {"energy": ("#2563eb", "circle"), "cross-entropy": ("#b5540b", "diamond-open")}
    for column, judged in enumerate(("judge", "well_formed"), 1):
        for kind, calm_ in KINDS.items():
            members = [row for row in rows if row.calm == calm_]
            colour, symbol = looks[kind]
            figure.add_scatter(
                x=[row.brier_lm for row in members], y=[getattr(row, judged) for row in members], mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 10}, name=f"trained by {kind}",
                showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
        figure.update_xaxes(title="BrierLM", row=1, col=column)
        figure.update_yaxes(title=JUDGED[judged], row=1, col=column)
    figure.update_layout(margin={"t": 40, "r": 20}, legend={"orientation": "h", "y": -0.22})
    save(figure, path, 1000, 420)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="bundled names or folders of checkpoints")
    parser.add_argument("--judge", default="story-ar")
    parser.add_argument("--texts", type=int, default=40, help="held-out stories for BrierLM")
    parser.add_argument("--stories", type=int, default=40, help="told by each checkpoint")
    parser.add_argument("--out", help="a PNG of the picture")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    judge = calm.load(arguments.judge, device="cpu")
    texts = list(storyland.stories("generation_benchmark", arguments.texts))
    rows = [measure(name, judge, texts, arguments.stories) for name in arguments.models]
    found = correlations(rows)
    if arguments.out:
        picture(rows, Path(arguments.out))
    if arguments.json:
        print(json.dumps({"checkpoints": [asdict(row) for row in rows], "correlations": found}))
        return
    for row in rows:
        own = "" if row.own is None else f"  own {row.own:.3f} nats"
        told = f"judge {row.judge:.3f} nats  well-formed {row.well_formed:.1%}"
        print(f"{row.name:28} BrierLM {row.brier_lm:5.1f}  {told}{own}")
    for judged, groups in found.items():
        told = ", ".join(f"{group} {value:+.2f}" for group, value in groups.items())
        print(f"rank correlation of BrierLM with {JUDGED[judged]}: {told}")


if __name__ == "__main__":
    main()
