import json
import re
import sys

import pytest

import calm
from calm import storyland
from calm.cli import evaluation, main, parser


def run(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    "generate reconstruct evaluate map index search train export card push samples stories bench doctor deploy".split(),
)
def test_every_command_has_help_and_json(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args([command, "--help"])
    assert stopped.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == f"calm {calm.__version__}\n"


def test_generate(capsys):
    text = run(capsys, "generate", "Once upon a time", "--max-new-tokens", "24", "--device", "cpu")
    assert text.startswith("Once upon a time") and len(text) > 30
    result = json.loads(run(capsys, "generate", "Once", "--max-new-tokens", "8", "--json", "--device", "cpu"))
    assert result["text"].startswith("Once")
    assert len(result["steps"]) == 2 and len(result["steps"][0]["vector"]) == 64
    prompt = storyland.prompt(3)
    assert run(capsys, "generate", prompt.strip(), "--max-new-tokens", "4", "--device", "cpu").startswith(prompt)


def test_reconstruct(capsys, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Mia lost her kite.")
    result = json.loads(run(capsys, "reconstruct", "--file", str(path), "--json", "--device", "cpu"))
    assert result["token_accuracy"] == 1.0
    assert "restored 100" in run(capsys, "reconstruct", "Mia lost her kite.", "--device", "cpu")


def test_evaluate(capsys, tmp_path):
    path = tmp_path / "stories.jsonl"
    path.write_text("\n".join(json.dumps({"text": s}) for s in storyland.stories("validation", 4)))
    out = tmp_path / "figures.json"
    figures = json.loads(
        run(capsys, "evaluate", str(path), "--noise", "0.3", "--storyland", "2", "--temperature", "0.5",
            "--brier-temperature", "0.5", "1", "--out", str(out), "--json", "--device", "cpu")
    )  # fmt: skip
    assert figures == json.loads(out.read_text())
    assert figures["command"].startswith("python -m calm evaluate stories.jsonl --noise 0.3")
    texts = figures["texts"][str(path)]
    assert texts["reconstruction"]["token_accuracy"]["0"] > 0.99
    assert texts["brier_lm"]["low"] <= texts["brier_lm"]["score"] <= texts["brier_lm"]["high"]
    assert list(texts["brier_lm_at"]) == ["0.5", "1"] and texts["brier_lm_at"]["1"] == texts["brier_lm"]
    assert texts["brier_lm_at"]["0.5"]["score"] != texts["brier_lm"]["score"]
    assert [stories["temperature"] for stories in figures["stories"]] == [0.5]
    assert 0 <= figures["stories"][0]["well_formed"] <= 1
    lines = list(evaluation._lines(figures))
    assert lines[0] == "story-k4: 10,431,424 parameters" and lines[1].startswith("FLOPs per token: 5.5 M to generate")
    assert re.match(r".*stories\.jsonl, 4 texts: BrierLM \d+\.\d \(.*\), \d+\.\d+ % of tokens restored", lines[2])
    assert re.match(r".*stories\.jsonl at T = 0\.5: BrierLM \d+\.\d \(.*\)$", lines[3])
    assert re.match(r"2 stories at T = 0\.5: \d+\.\d% of sentences well-formed", lines[5])


def test_stories(capsys):
    assert run(capsys, "stories", "--count", "2", "--seed", "3").rstrip("\n") == "\n\n".join(storyland.corpus(2, 3))
    assert json.loads(run(capsys, "stories", "--json")) == [storyland.story(0)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--temperature", "3"],
        ["generate", "--model", "no-such-model"],
        ["reconstruct", "--file", "/nowhere"],
        ["reconstruct", "--file", "assets/map-story-k4.npy"],
        ["evaluate"],
        ["evaluate", "storyland:10000000:1", "--limit", "0"],
        ["evaluate", "storyland:10000000:1", "--limit", "-1"],
        ["evaluate", "storyland:10000000:1", "--storyland", "2", "--temperature", "0"],
        ["evaluate", "storyland:-1:1"],
        ["stories", "--count", "-1"],
        ["stories", "--seed", "-1"],
        ["train", "lm", "--recipe", "no-such-recipe"],
        ["train", "lm", "--recipe", "story-ar"],
        ["deploy", "space", "no-owner"],
        ["deploy", "space", "owner/name", "--variable", "no-value"],
    ],
)
def test_mistakes_are_reported_in_one_sentence_and_exit_with_2(arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (
            ModuleNotFoundError(name="umap"),
            2,
            "error: umap is not installed; run: pip install 'calm-playground[app]'\n",
        ),
        (OSError(28, "No space left on device", "out.json"), 1, "error: out.json: No space left on device\n"),
        (MemoryError(), 1, "error: the memory of this machine is full\n"),
        (KeyError("x\ny"), 1, "error: KeyError: 'x\\ny' (CALM_TRACEBACK=1 shows where it was raised)\n"),
    ],
)
def test_other_failures_are_reported_in_one_sentence_too(error, code, sentence, capsys, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(storyland, "corpus", fail)
    assert main(["stories"]) == code
    assert capsys.readouterr().err == sentence


def test_the_benchmark_needs_the_repository(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "benchmarks.generation", None)
    assert main(["bench"]) == 2
    assert "run the command in a clone of it" in capsys.readouterr().err


def test_doctor(capsys):
    code = main(["doctor", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert code == int(result["status"] == "error") and {"Python", "Models"} <= {c["name"] for c in result["checks"]}
    main(["doctor"])
    assert "Models: story-ar" in capsys.readouterr().out


def test_deploy_lists_what_it_would_upload(capsys):
    lines = run(capsys, "deploy", "space", "me/page", "--hardware", "t4", "--variable", "CALM_MODELS=a/b")
    assert " app.py\n" in lines and "hardware t4-small: GPU Spaces need a paid plan" in lines
    assert lines.endswith("nothing was uploaded; add --yes to upload to me/page\n")
    plan = json.loads(run(capsys, "deploy", "space", "me/page", "--json"))
    assert plan["uploaded"] is False and plan["url"].endswith("/spaces/me/page") and "app.py" in plan["files"]


def test_samples_are_written_in_order_of_their_seeds(capsys, tmp_path):
    out = tmp_path / "samples.md"
    arguments = ("--temperature", "0.5", "--count", "4", "--out", str(out), "--device", "cpu")
    run(capsys, "samples", "story-k4", "story-ar", *arguments)
    page = out.read_text(encoding="utf-8")
    for name in ("story-k4", "story-ar"):
        stories = page.partition(f"## {name}, T = 0.5\n")[2].partition("\n## ")[0].strip().split("\n\n")
        assert [story.partition(".")[0] for story in stories] == ["0", "1", "2", "3"]
        assert all(re.match(r"\d\. \*[^*\n]+\.\* [A-Z]", stories[odd]) for odd in (1, 3))  # the prompt
        again = json.loads(run(capsys, "generate", "--seed", "2", "--max-new-tokens", "280", "--model", name, "--json"))
        assert stories[2].removeprefix("2. ") == again["text"].strip()
