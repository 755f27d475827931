import pytest

from calm import CalmError
from calm.training import recipe, tasks
from calm.training.settings import CalmSettings
from calm.training.validation import parse


def test_bundled_recipes_can_be_read():
    assert {"tokenizer", "autoencoder-k4", "story-k4", "story-ar"} <= set(recipe.names())
    for name in recipe.names():
        settings = recipe.read(name, corpus="/somewhere")
        kind = tasks.SETTINGS[settings.pop("task")]
        assert "{corpus}" not in str(parse(kind, settings))


def test_recipes_can_be_changed_and_are_checked():
    settings = recipe.read("story-k4", changes=["steps=7", "model.hidden_size=64"])
    assert settings["steps"] == 7 and settings["model"]["hidden_size"] == 64
    assert settings["model"]["num_hidden_layers"] > 0
    with pytest.raises(CalmError, match="There is no recipe 'nothing'"):
        recipe.read("nothing")
    with pytest.raises(CalmError, match="Unknown setting 'stepz'; did you mean 'steps'"):
        parse(CalmSettings, {"out": "x", "stepz": 1})
    with pytest.raises(CalmError, match="cannot be read as TOML"):
        recipe.read("story-k4", changes=["steps=seven"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"steps = ", "recipe mine.toml cannot be read as TOML"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"base = 5", "must be a recipe's name, not 5"),
        (b"base = 'nothing'", "There is no recipe 'nothing'"),
        (b"base = '{corpus}/mine.toml'", "is its own base"),
    ],
)
def test_a_recipe_file_that_cannot_be_used_is_reported_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(CalmError, match=message):
        recipe.read(str(path), corpus=str(tmp_path))


def test_a_recipe_file_can_change_a_bundled_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "story-k4"\nsteps = 3\n[model]\nnum_samples = 8\n')
    settings, bundled = recipe.read(str(path)), recipe.read("story-k4")
    assert settings == {**bundled, "steps": 3, "model": {**bundled["model"], "num_samples": 8}}


def test_the_corpus_may_have_any_path(tmp_path):
    corpus = 'C:\\texts\\"new"'
    path = tmp_path / "mine.toml"
    path.write_text(
        'sources = ["{corpus}/train.txt", "storyland:0:5"]\nsteps = 3\n[valid]\nnovels = ["{corpus}/valid.txt"]\n'
    )
    assert recipe.read(str(path), corpus=corpus) == {
        "sources": [f"{corpus}/train.txt", "storyland:0:5"],
        "steps": 3,
        "valid": {"novels": [f"{corpus}/valid.txt"]},
    }
