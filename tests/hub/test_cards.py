import json
import shutil

import pytest
import torch

import calm
from calm import CalmError
from calm.cli import main
from calm.hub import cards, uploads
from calm.hub.official import save_official
from calm.hub.records import read_record
from calm.hub.saving import save
from calm.storyland import EDITION

from ..conftest import tiny_config

RUN = {"sources": ["storyland:0:40"], "steps": 12, "primer_steps": 3}
BRIER = {"score": 41.25, "brier": [60.0, 50.0, 40.0, 30.0], "low": 40.0, "high": 42.5, "positions": 100}
EVALUATION = {
    "command": "python -m calm evaluate storyland:10000000:5",
    "parameters": 123456,
    "texts": {
        "storyland:10000000:5": {
            "count": 5,
            "reconstruction": {"token_accuracy": {"0": 0.99987, "0.3": 0.9931}, "tokens": 800},
            "brier_lm": BRIER,
            "by_position": [{"tokens": [0, 64], "rows": 3, **BRIER}, {"tokens": [64, 128], "rows": 3, **BRIER}],
        },
    },
    "stories": [
        {
            "temperature": 0.5,
            "well_formed": 0.912,
            "consistent": 0.4,
            "prompt_followed": 0.85,
            "stories": 10,
            "sentences": 120,
            "unprompted": {"stories": 5, "plots": 4, "heroes": 3, "commonest_plot": 0.4},
            "samples": ["Once upon a time.\nThe end.", "A story about a fox."],
        }
    ],
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(tiny_config().to_json_string())
    (path / "evaluation.json").write_text(json.dumps(EVALUATION))
    (path / "training.json").write_text(json.dumps({**RUN, "tokens": 24_000, "seconds": 3661.5}))
    return path


def test_the_card_shows_the_recorded_figures(folder):
    text = cards.write(folder).read_text()
    for words in (
        "K = 4", "123,456 parameters", "12 steps", "3,662 seconds", "`storyland:0:40`", "3 steps on the primer",
        EVALUATION["command"], "99.987 %", "99.310 % (0.3)", "41.2 (40.0 to 42.5)", "60.0, 50.0, 40.0, 30.0",
        "| 0.5 | 91.2 % | 40.0 % | 85.0 % | 10 | 120 | 5 | 4 | 3 | 40.0 % |",
        "| 64 to 128 | 41.2 (40.0 to 42.5) |", "position in 3 rows", "> Once upon a time.\n> The end.",
    ):  # fmt: skip
        assert words in text, words


def test_an_evaluation_of_an_older_version_has_to_be_repeated(folder):
    stories = [{key: value for key, value in EVALUATION["stories"][0].items() if key != "unprompted"}]
    (folder / "evaluation.json").write_text(json.dumps({**EVALUATION, "stories": stories}))
    with pytest.raises(CalmError, match="is of an older version"):
        cards.write(folder)


def test_the_card_lists_the_stages_of_training(folder):
    first = {**RUN, "tokens": 9_000_000, "seconds": 1234.0}
    second = {"sources": ["prompted:0:40"], "steps": 5, "tokens": 3_000_000, "seconds": 432.0, "init_from": first}
    backbone = {**second, "steps": 9}

    def card(**changes) -> str:
        (folder / "training.json").write_text(json.dumps({**second, **changes}))
        return cards.write(folder).read_text()

    assert "- stage 1 of 2: 12 steps, 9.0 million tokens, 1,234 seconds; texts `storyland:0:40` after 3 steps" in card()
    assert "- stage 2 of 2: 5 steps, 3.0 million tokens, 432 seconds; texts `prompted:0:40`\n" in card()
    assert "432 seconds on an NVIDIA H200; texts" in card(device="NVIDIA H200")
    changed = card(init_layers=[0, 2], distil_from="story-k4")
    assert "initialized from layers 0, 2 of the stage before; distilled from `story-k4`" in changed
    assert "- another run, averaged with this one: 7 steps, 3.0 million" in card(averaged=[{**second, "steps": 7}])
    text = card(init_from={**first, "init_backbone_from": backbone})
    assert "- last stage of the model that initialized the backbone: 9 steps" in text
    text = card(init_from={**first, "init_backbone_from": {"model": "story-k4", **backbone}})
    assert "- last stage of the model that initialized the backbone, `story-k4`: 9 steps" in text
    assert "5 steps, 3.0 million tokens, 77 seconds of CPU time; texts" in card(cpu_seconds=77.4)
    assert "texts `prompted:0:40`; all targets of a place\n" in card(note="all targets of a place")
    tuned = card(autoencoder={**second, "steps": 8})
    assert "- autoencoder, stage 1 of 2: 12 steps" in tuned and "- autoencoder, stage 2 of 2: 8 steps" in tuned


def test_other_models_on_the_same_texts_are_listed(folder, tmp_path, monkeypatch):
    other = tmp_path / "bundled" / "story-ar"
    other.mkdir(parents=True)
    texts = {"storyland:10000000:5": {"count": 5, "brier_lm": {**BRIER, "score": 50.0}}}
    (other / "evaluation.json").write_text(json.dumps({"texts": texts}))
    monkeypatch.setattr(cards, "CHECKPOINTS", tmp_path / "bundled")
    assert "| the same, `story-ar` | | | | 50.0 (40.0 to 42.5) | |" in cards.write(folder).read_text()
    (other / "evaluation.json").write_text(json.dumps({"texts": texts, "storyland_edition": 1}))
    assert "story-ar" not in cards.write(folder).read_text()  # other stories under the same name


@pytest.mark.parametrize("name", ["evaluation.json", "training.json", "config.json"])
def test_a_card_needs_all_three_files(folder, name):
    (folder / name).unlink()
    with pytest.raises(CalmError, match=name):
        cards.write(folder)
    assert not (folder / "README.md").exists()


def test_a_run_is_recorded_with_its_autoencoder(tmp_path):
    for name, settings in (
        ("ae", {"sources": {"stories": ["storyland:0:9", "/here/a.txt"]}, "shares": {"stories": 1.0}, "steps": 5}),
        ("lm", {**RUN, "autoencoder": str(tmp_path / "ae" / "best"), "learning_rate": 1e-3}),
        ("further", {**RUN, "autoencoder": str(tmp_path / "lm" / "best")}),  # the autoencoder of a CALM
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text(json.dumps(settings))
        times = [2.0, 4.0, 6.0, 108.0, 110.0, 112.0]  # interrupted for a hundred seconds
        rows = [{"step": 5, "tokens": 100, "seconds": s} for s in times] + [{"step": 5, "validation": {"score": 1.0}}]
        (tmp_path / name / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    record = read_record(tmp_path / "lm")
    assert (record["steps"], record["tokens"], record["seconds"]) == (12, 100, 12.0)
    assert record["storyland_edition"] == EDITION and "storyland_edition" not in record["autoencoder"]
    assert record["autoencoder"]["shares"] == {"stories": 1.0}
    assert record["autoencoder"]["sources"] == {"stories": ["storyland:0:9", "a.txt"]}  # without the folder
    assert read_record(tmp_path / "further")["autoencoder"] == record["autoencoder"]
    assert read_record(tmp_path) is None


def test_the_command_writes_the_card(folder, capsys):
    assert main(["card", str(folder)]) == 0
    assert capsys.readouterr().out == f"wrote {folder / 'README.md'}\n"


def test_push_is_a_dry_run_without_yes(folder, capsys, monkeypatch):
    assert main(["push", str(folder), "me/tiny"]) == 2
    assert "no README.md" in capsys.readouterr().err
    cards.write(folder)
    done = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, *a, **k: done.append(a))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **k: done.append(k))
    assert main(["push", str(folder), "me/tiny"]) == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    assert done == []
    assert main(["push", str(folder), "me/tiny", "--yes"]) == 0
    assert [k["repo_id"] for k in done[1:]] == ["me/tiny"]
    assert "https://huggingface.co/me/tiny" in capsys.readouterr().out


def test_a_shared_autoencoder_is_named_and_uploaded(folder, tiny, tmp_path, monkeypatch):
    lm = tiny(4)
    save(lm, tmp_path / "source")
    save(lm, folder, shared_autoencoder="source")
    assert "with the autoencoder, which it shares with `source`: a Llama backbone" in cards.write(folder).read_text()
    uploaded = tmp_path / "uploaded"
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, *a, **k: None)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.upload_folder", lambda self, folder_path, **k: shutil.copytree(folder_path, uploaded)
    )
    uploads.push(folder, "me/tiny", dry=False)
    assert {path.name for path in uploaded.iterdir()} == {path.name for path in folder.iterdir()}
    for name, weight in calm.load(uploaded, device="cpu").model.state_dict().items():
        assert torch.equal(weight, calm.load(folder, device="cpu").model.state_dict()[name])


def test_a_refusal_of_the_hub_is_reported_in_one_sentence(folder, monkeypatch):
    def refuse(self, *a, **k):
        raise OSError("no token\nand more")

    cards.write(folder)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(calm.CalmError, match=r"did not accept me/tiny: no token$"):
        uploads.push(folder, "me/tiny", dry=False)


def test_the_card_names_the_head(folder):
    assert ", an energy head of 2 blocks" in cards.write(folder).read_text()
    (folder / "config.json").write_text(tiny_config(head="diffusion").to_json_string())
    assert ", a diffusion head of 2 blocks" in cards.write(folder).read_text()


def test_the_record_of_a_killed_run_leaves_out_a_part_of_a_line(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps(RUN))
    (tmp_path / "log.jsonl").write_text("")
    assert read_record(tmp_path) is None  # stopped before its first line
    (tmp_path / "log.jsonl").write_text('{"step": 20, "tokens": 100, "seconds": 2.0}\n{"step": 40, "tok')
    assert read_record(tmp_path)["tokens"] == 100


def test_a_folder_in_the_official_format_is_uploaded_as_it_is(folder, tiny, tmp_path, monkeypatch):
    save_official(tiny(4), folder, ae_path="me/autoencoder")
    assert "which it shares" not in cards.write(folder).read_text()
    uploaded = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, *a, **k: None)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **k: uploaded.append(k))
    result = uploads.push(folder, "me/tiny", dry=False)
    assert [call["folder_path"] for call in uploaded] == [folder]
    assert "*.safetensors.index.json" in uploaded[0]["delete_patterns"]  # those of an earlier upload
    assert {"model.safetensors", "autoencoder/model.safetensors", "autoencoder/config.json"} <= result["files"].keys()


def test_a_refusal_without_a_message_is_reported_by_its_kind(folder, monkeypatch):
    def refuse(self, *a, **k):
        raise ConnectionResetError

    cards.write(folder)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(calm.CalmError, match=r"did not accept me/tiny: ConnectionResetError$"):
        uploads.push(folder, "me/tiny", dry=False)
