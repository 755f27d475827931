import json
import re

import pytest

from calm import storyland
from calm.cli import main, parser


def run(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    ["generate", "reconstruct", "evaluate", "map", "train", "export", "card", "push", "samples", "stories", "bench"],
)
def test_every_command_has_help_and_json(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args([command, "--help"])
    assert stopped.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_generate(capsys):
    text = run(capsys, "generate", "Once upon a time", "--max-new-tokens", "24", "--device", "cpu")
    assert text.startswith("Once upon a time") and len(text) > 30
    found = json.loads(run(capsys, "generate", "Once", "--max-new-tokens", "8", "--json", "--device", "cpu"))
    assert found["text"].startswith("Once")
    assert len(found["steps"]) == 2 and len(found["steps"][0]["vector"]) == 64


def test_reconstruct(capsys, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Mia lost her kite.")
    found = json.loads(run(capsys, "reconstruct", "--file", str(path), "--json", "--device", "cpu"))
    assert found["token_accuracy"] == 1.0
    assert "tokens 100" in run(capsys, "reconstruct", "Mia lost her kite.", "--device", "cpu")


def test_evaluate(capsys, tmp_path):
    path = tmp_path / "stories.jsonl"
    path.write_text("\n".join(json.dumps({"text": s}) for s in storyland.stories("validation", 4)))
    out = tmp_path / "figures.json"
    found = json.loads(
        run(capsys, "evaluate", str(path), "--noise", "0.3", "--storyland", "2", "--temperature", "0.5",
            "--out", str(out), "--json", "--device", "cpu")
    )  # fmt: skip
    assert found == json.loads(out.read_text())
    figures = found["texts"][str(path)]
    assert figures["reconstruction"]["token_accuracy"]["0"] > 0.99
    assert figures["brier_lm"]["low"] <= figures["brier_lm"]["score"] <= figures["brier_lm"]["high"]
    assert [stories["temperature"] for stories in found["stories"]] == [0.5]
    assert 0 <= found["stories"][0]["well_formed"] <= 1


def test_stories(capsys):
    assert run(capsys, "stories", "--count", "2", "--seed", "3").rstrip("\n") == "\n\n".join(storyland.corpus(2, 3))
    assert json.loads(run(capsys, "stories", "--json")) == [storyland.story(0)]


def test_errors_are_one_sentence_and_exit_with_2(capsys):
    for arguments in (
        ["generate", "--temperature", "3"],
        ["generate", "--model", "no-such-model"],
        ["reconstruct", "--file", "/nowhere"],
        ["evaluate"],
        ["train", "lm", "--recipe", "no-such-recipe"],
        ["train", "lm", "--recipe", "story-ar"],
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
        assert "Traceback" not in captured.err


def test_samples_are_written_in_order_of_their_seeds(capsys, tmp_path):
    out = tmp_path / "samples.md"
    arguments = ("--temperature", "0.5", "--count", "4", "--out", str(out), "--device", "cpu")
    run(capsys, "samples", "story-k4", "story-ar", *arguments)
    page = out.read_text(encoding="utf-8")
    for name in ("story-k4", "story-ar"):
        told = page.partition(f"## {name}, T = 0.5\n")[2].partition("\n## ")[0].strip().split("\n\n")
        assert [story.partition(".")[0] for story in told] == ["0", "1", "2", "3"]
        assert all(re.match(r"\d\. \*[^*\n]+\.\* [A-Z]", told[odd]) for odd in (1, 3))  # ordered, by one line
        again = json.loads(run(capsys, "generate", "--seed", "2", "--max-new-tokens", "280", "--model", name, "--json"))
        assert told[2].removeprefix("2. ") == again["text"].strip()
