import pytest

import calm
from app.controls import FALLBACK_NOTE
from app.story_prompts import ENGLISH, example_prompts
from app.tabs import race as race_tab
from calm import CalmError
from calm.engine import Backend, create_engine, engine_for

from .arguments import local_model, run_arguments

PROMPT = "Once upon a time"


def test_each_racer_generates_the_same_text_as_alone(tiny, tiny_ar):
    models = [tiny(), tiny_ar]
    *_, race = race_tab.race(list(map(local_model, models)), run_arguments(PROMPT, 0.7, 24, 3))
    assert all(racer.finished for racer in race.racers)
    for lm, racer in zip(models, race.payload()["racers"]):
        alone = list(calm.generate(lm, PROMPT, 0.7, 24, seed=3))
        assert racer["texts"] == [step.text for step in alone]
        assert racer["seconds"] == sorted(racer["seconds"]) and len(racer["seconds"]) == len(alone)
        assert (racer["backbone_layers"], racer["backbone_width"]) == (2, 32)
        assert racer["draws_per_step"] == pytest.approx(sum(step.draws for step in alone) / len(alone))
        assert f"{lm.name}: <strong>" in race.summary()


@pytest.mark.parametrize("fallbacks", [(), (0,), (1,), (0, 1)])
def test_only_racers_of_the_same_kind_have_a_speed_up(tiny, tiny_ar, fallbacks):
    """A model whose kernels are still being compiled is much slower than with them."""
    models = [tiny(), tiny_ar]
    for index, lm in enumerate(models):
        create_engine(lm, backend=Backend.PYTORCH if index in fallbacks else None)
    *_, race = race_tab.race(list(map(local_model, models)), run_arguments(PROMPT, 0.7, 24, 3))
    assert ("speed-up <strong>" in race.summary()) == (len(fallbacks) != 1)
    assert (race_tab.NO_SPEED_UP in race.summary()) == (len(fallbacks) == 1)
    assert (FALLBACK_NOTE in race.summary()) == bool(fallbacks)


def test_the_racer_that_has_used_less_time_is_next(tiny, tiny_ar):
    before = [0.0, 0.0]
    for race in race_tab.race([local_model(tiny()), local_model(tiny_ar)], run_arguments(PROMPT, 1.0, 40, 0)):
        now = [racer.total_seconds for racer in race.racers]
        moved = [index for index in (0, 1) if now[index] != before[index]]
        assert len(moved) <= 1
        if moved and not any(racer.finished for racer in race.racers):
            assert before[moved[0]] == min(before)
        before = now


def test_a_race_that_is_closed_frees_its_slots(tiny, tiny_ar):
    models = [tiny(), tiny_ar]
    steps = race_tab.race(list(map(local_model, models)), run_arguments(PROMPT, 1.0, 40, 0))
    for _ in range(4):
        next(steps)
    steps.close()
    for lm in models:
        list(calm.generate(lm, PROMPT, 1.0, 4))  # the engine frees slots at its next step
        assert not engine_for(lm).running or all(request.finished for request in engine_for(lm).running)


def test_the_texts_of_a_race_belong_to_its_visitor(tiny, tiny_ar):
    models = [tiny(), tiny_ar]
    steps = race_tab.race(list(map(local_model, models)), run_arguments(PROMPT, 1.0, 40, 0, visitor="a"))
    next(steps)
    next(steps)
    assert [request.client for lm in models for request in engine_for(lm).running] == ["a", "a"]
    steps.close()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": "x" * 5000}, "5,000 characters"),
        ({"seed": 1.5}, "Random seed"),
        ({"max_new_tokens": 0}, "Max new tokens"),
    ],
)
def test_bad_input_is_an_error_before_the_start(tiny, tiny_ar, change, sentence):
    settings = {"prompt": PROMPT, "temperature": 1.0, "max_new_tokens": 8, "seed": 0, **change}
    with pytest.raises(CalmError, match=sentence):
        race_tab.race([local_model(tiny()), local_model(tiny_ar)], run_arguments(**settings))


def test_a_model_of_another_language_gets_a_prompt_that_suits_it_and_has_no_rival(monkeypatch, tiny, tiny_ar):
    monkeypatch.setenv("CALM_MODELS", "someone/english-model")
    first = race_tab.example()["race"]["prompt"]
    box = race_tab._suit_prompt("someone/english-model", first)
    assert box["value"] == ENGLISH[0] and "story-ar, generates only stories of Storyland" in box["info"]
    assert race_tab._suit_prompt("story-ar", "my own") == race_tab._suit_prompt("story-k4", first)
    assert race_tab._suit_prompt("story-k4", ENGLISH[0])["value"] == example_prompts("story-k4")[0]
    models = {"someone/english-model": local_model(tiny()), "story-ar": local_model(tiny_ar)}
    for stand_in in ("loading", "is_loaded"):
        monkeypatch.setattr(race_tab, stand_in, models.get)
    monkeypatch.setattr(race_tab, "loaded", models.get)
    *_, last = race_tab._run("someone/english-model", "My own", 1.0, 8, 0)
    assert last.results  # a model with the rival's tokenizer races it
    vocabularies = iter([{"a": 0}, {"b": 0}])  # both models share one tokenizer
    monkeypatch.setattr(models["story-ar"].lm.tokenizer, "get_vocab", lambda: next(vocabularies))
    with pytest.raises(CalmError, match="someone/english-model has another tokenizer than story-ar"):
        list(race_tab._run("someone/english-model", "My own", 1.0, 8, 0))
