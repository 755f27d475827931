import json
import shutil

import pytest
import torch

import calm
from calm import CalmError
from calm.cli import main
from calm.hub import cards as card
from calm.hub import uploads
from calm.hub.saving import save

from ..conftest import tiny_config

RUN = {"sources": ["storyland:0:40"], "steps": 12, "primer_steps": 3}
BRIER = {"score": 41.25, "brier": [60.0, 50.0, 40.0, 30.0], "low": 40.0, "high": 42.5, "positions": 100}
EVALUATION = {
    "command": "python -m calm evaluate storyland:10000000:5",
    "parameters": 123456,
    "storyland:10000000:5": {
        "texts": 5,
        "reconstruction": {"token accuracy, clean": 0.99987, "token accuracy, noise 0.3": 0.9931, "tokens": 800},
        "BrierLM": BRIER,
    },
    "stories at T = 0.5": {
        "well-formed sentences": 0.912,
        "consistent stories": 0.4,
        "announcements kept": 0.85,
        "stories": 10,
        "sentences": 120,
        "samples": ["Once upon a time.\nThe end.", "A story about a fox."],
    },
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(tiny_config().to_json_string())
    (path / "evaluation.json").write_text(json.dumps(EVALUATION))
    (path / "training.json").write_text(json.dumps({**RUN, "tokens": 24_000, "seconds": 3661.5}))
    return path


def test_the_card_says_what_was_recorded(folder):
    text = card.write(folder).read_text()
    for said in (
        "K = 4", "123,456 parameters", "12 steps", "3,662 seconds", "`storyland:0:40`", "3 steps on the primer",
        EVALUATION["command"], "99.987 %", "99.310 % (0.3)", "41.2 (40.0 to 42.5)", "60.0, 50.0, 40.0, 30.0",
        "| 0.5 | 91.2 % | 40.0 % | 85.0 % | 10 | 120 |", "> Once upon a time.\n> The end.",
    ):  # fmt: skip
        assert said in text, said


def test_the_card_tells_both_stages_of_a_run_that_went_on_from_another(folder):
    first = {**RUN, "tokens": 9_000_000, "seconds": 1234.0}
    second = {"sources": ["orders:0:40"], "steps": 5, "tokens": 3_000_000, "seconds": 432.0, "start": first}
    (folder / "training.json").write_text(json.dumps(second))
    text = card.write(folder).read_text()
    assert "tiny, stage 1 of 2: 12 steps, 9.0 million tokens, 1,234 seconds" in text
    assert "tiny, stage 2 of 2: 5 steps, 3.0 million tokens, 432 seconds, pauses not counted; on `orders:0:40`" in text
    (folder / "training.json").write_text(json.dumps({**second, "device": "NVIDIA H200"}))
    assert "432 seconds on an NVIDIA H200, pauses not counted" in card.write(folder).read_text()
    (folder / "training.json").write_text(json.dumps({**second, "layers": [0, 2], "teacher": "story-k4"}))
    assert (
        "`orders:0:40`; kept of the stage before: layers 0, 2; taught by `story-k4`" in card.write(folder).read_text()
    )
    (folder / "training.json").write_text(json.dumps({**second, "averaged": [{**second, "steps": 7}]}))
    assert "another run, with which its weights are averaged: 7 steps, 3.0 million" in card.write(folder).read_text()


def test_other_models_are_told_beside_on_the_same_texts(folder, tmp_path, monkeypatch):
    other = tmp_path / "bundled" / "story-ar"
    other.mkdir(parents=True)
    beside = {"storyland:10000000:5": {"texts": 5, "BrierLM": {**BRIER, "score": 50.0}}}
    (other / "evaluation.json").write_text(json.dumps(beside))
    monkeypatch.setattr(card, "CHECKPOINTS", tmp_path / "bundled")
    assert "| the same, `story-ar` | | | | 50.0 (40.0 to 42.5) | |" in card.write(folder).read_text()


@pytest.mark.parametrize("name", ["evaluation.json", "training.json", "config.json"])
def test_nothing_is_written_without_measurements(folder, name):
    (folder / name).unlink()
    with pytest.raises(CalmError, match=name):
        card.write(folder)
    assert not (folder / "README.md").exists()


def test_a_run_is_recorded_with_its_autoencoder(tmp_path):
    for name, settings in (
        ("ae", {"sources": {"stories": ["storyland:0:9", "/here/a.txt"]}, "shares": {"stories": 1.0}, "steps": 5}),
        ("lm", {**RUN, "autoencoder": str(tmp_path / "ae" / "best"), "learning_rate": 1e-3}),
        ("further", {**RUN, "autoencoder": str(tmp_path / "lm" / "best")}),  # the autoencoder of a CALM
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text(json.dumps(settings))
        times = [2.0, 4.0, 6.0, 108.0, 110.0, 112.0]  # held up for a hundred seconds
        rows = [{"step": 5, "tokens": 100, "seconds": s} for s in times] + [{"step": 5, "validation": {"score": 1.0}}]
        (tmp_path / name / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = card.record(tmp_path / "lm")
    assert (found["steps"], found["tokens"], found["seconds"]) == (12, 100, 12.0)
    assert found["autoencoder"]["shares"] == {"stories": 1.0}
    assert found["autoencoder"]["sources"] == {"stories": ["storyland:0:9", "a.txt"]}  # no folder of this machine
    assert card.record(tmp_path / "further")["autoencoder"] == found["autoencoder"]
    assert card.record(tmp_path) is None


def test_the_command_writes_the_card(folder, capsys):
    assert main(["card", str(folder)]) == 0
    assert capsys.readouterr().out == f"wrote {folder / 'README.md'}\n"


def test_push_is_a_dry_run_unless_told_otherwise(folder, capsys, monkeypatch):
    assert main(["push", str(folder), "me/tiny"]) == 2
    assert "no README.md" in capsys.readouterr().err
    card.write(folder)
    done = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, *a, **k: done.append(a))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **k: done.append(k))
    assert main(["push", str(folder), "me/tiny"]) == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    assert done == []
    assert main(["push", str(folder), "me/tiny", "--yes"]) == 0
    assert [k["repo_id"] for k in done[1:]] == ["me/tiny"]
    assert "https://huggingface.co/me/tiny" in capsys.readouterr().out


def test_a_lent_autoencoder_is_told_and_goes_to_the_hub_as_well(folder, tiny, tmp_path, monkeypatch):
    lm = tiny(4)
    save(lm, tmp_path / "source")
    save(lm, folder, shared_autoencoder="source")
    assert "the autoencoder included, which is that of `source`: a Llama backbone" in card.write(folder).read_text()
    taken = tmp_path / "taken"
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, *a, **k: None)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.upload_folder", lambda self, folder_path, **k: shutil.copytree(folder_path, taken)
    )
    uploads.push(folder, "me/tiny", dry=False)
    assert {path.name for path in taken.iterdir()} == {path.name for path in folder.iterdir()}
    for name, weight in calm.load(taken, device="cpu").model.state_dict().items():
        assert torch.equal(weight, calm.load(folder, device="cpu").model.state_dict()[name])


def test_what_the_hub_refuses_is_one_sentence(folder, monkeypatch):
    def refuse(self, *a, **k):
        raise OSError("no token\nand more")

    card.write(folder)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(calm.CalmError, match=r"did not accept me/tiny: no token$"):
        uploads.push(folder, "me/tiny", dry=False)
