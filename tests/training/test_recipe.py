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
