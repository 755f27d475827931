import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import calm
from app import compute, health, page
from app import registry as models
from app.backends import local
from app.fresh_samples import draw_cloud, draw_pool
from app.official import OFFICIAL_MODELS
from app.registry import facts, loaded, loading, offered
from app.tabs import generate as generate_tab
from app.tabs import reconstruct as reconstruct_tab
from app.tabs.race import race
from calm import CalmError
from calm.engine import Backend, create_engine, engine_for, warmup

from .arguments import run_arguments


def test_the_menu_offers_bundled_models_and_those_of_the_environment(monkeypatch, tiny, tmp_path):
    from calm.hub.saving import save

    folder = tmp_path / "mine"
    save(tiny(), folder)
    monkeypatch.setenv("CALM_MODELS", f" {folder} ,")
    assert {"story-k4", "story-ar"} <= set(offered()) and offered()[-1] == str(folder)
    assert facts(str(folder)) is None  # not before it is loaded
    assert loaded(str(folder)).map is None
    known = facts(str(folder))
    assert known is not None and known.parameters == loaded(str(folder)).lm.num_parameters and known.chunk_size == 4
    (last, _) = list(page.choose_model(str(folder)))[-1]
    assert str(folder) in last and "float32" in last


def test_a_bundled_model_whose_files_do_not_give_its_size_has_no_facts(monkeypatch, tmp_path):
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(models, "bundled", lambda: ["mine"])
    monkeypatch.setattr(models.folders, "CHECKPOINTS", tmp_path)
    assert facts("mine") is None
    (tmp_path / "mine" / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 1}}')
    assert facts("mine") is None


def test_a_load_that_fails_without_a_message_names_its_error(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(calm, "load", fail)
    with pytest.raises(CalmError, match="story-k4 could not be loaded: RuntimeError"):
        local._load("story-k4", lambda needed, free: None)


def test_texts_are_generated_while_kernels_are_compiled(monkeypatch, tiny, tmp_path):
    from calm.hub.saving import save

    def fall_back(lm, executor):
        create_engine(lm, executor, Backend.PYTORCH)
        return False

    compiled = threading.Event()
    monkeypatch.setattr(warmup, "warm_up_or_fall_back", fall_back)
    monkeypatch.setattr(warmup, "compile_in_subprocess", lambda name: name == str(folder) and compiled.wait(60))
    monkeypatch.setattr(warmup, "replace_fallback", create_engine)
    monkeypatch.setattr(local, "_compile_lock", threading.Lock())  # another test may still have something compiled
    folder = tmp_path / "new"
    save(tiny(), folder)
    monkeypatch.setenv("CALM_MODELS", str(folder))
    model = loaded(str(folder))

    *_, runs = generate_tab.stream(model, run_arguments("Once", 1.0, 32, 0, pool_size=8))
    status = generate_tab.summary(runs)
    assert "tokens/s" in status and "kernels are being compiled" in status
    compiled.set()
    for _ in range(600):
        if not engine_for(model.lm).is_fallback:
            break
        time.sleep(0.1)
    assert not engine_for(model.lm).is_fallback and not models.uses_fallback(model.lm)


def test_facts_are_known_before_a_model_is_loaded():
    for name in ("story-k4", "story-ar"):
        known, lm = facts(name), loaded(name).lm
        assert known is not None
        assert known.chunk_size == lm.chunk_size and bool(known.latent_size) == lm.is_calm
        assert known.parameters == lm.num_parameters


def test_the_page_is_built_before_torch_is_imported():
    code = "import sys; from app.page import build; build(); print({'torch', 'umap', 'numba'} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["other", "", None, "../story-k4"])
def test_a_model_outside_the_menu_is_reported_in_one_sentence(name):
    with pytest.raises(CalmError, match="choose one of story-k4"):
        loading(name)
    assert "choose one of" in list(page.choose_model(name))[-1][0]


def test_a_load_that_failed_is_reported_in_one_sentence_and_starts_again(monkeypatch, tmp_path):
    monkeypatch.setenv("CALM_MODELS", str(tmp_path))
    for _ in range(2):
        with pytest.raises(CalmError, match="holds no config"):
            loading(str(tmp_path)).result()
    assert not models.is_loaded(str(tmp_path))


def test_requests_continue_while_a_model_is_downloaded(monkeypatch, tiny, tmp_path):
    from calm.hub import folders
    from calm.hub.saving import save

    save(tiny(), tmp_path / "mine")
    arriving = threading.Event()

    def download(name, revision=None, report=None):
        assert name == "someone/mine" and arriving.wait(60)
        return tmp_path / "mine"

    monkeypatch.setattr(folders, "download", download)
    monkeypatch.setenv("CALM_MODELS", "someone/mine")
    load = loading("someone/mine")
    *_, (run,) = generate_tab.stream(loaded(), run_arguments("Once upon a time", 0.5, 8, 0))
    assert run.payload["steps"] and not load.done()
    arriving.set()
    assert load.result(60).name == "someone/mine" and models.is_loaded("someone/mine")


def test_a_download_shows_its_bytes_and_ends_when_nobody_waits_for_it(monkeypatch, tiny, tmp_path):
    from calm.hub import folders
    from calm.hub.saving import save

    save(tiny(), tmp_path / "mine")
    arriving = threading.Event()

    def download(name, revision=None, report=None):
        while not arriving.wait(0.01):
            report(120_000_000, 1_500_000_000)
        return tmp_path / "mine"

    monkeypatch.setattr(folders, "download", download)
    monkeypatch.setattr(models, "STATUS_SECONDS", 0.05)
    monkeypatch.setattr(models, "_loads", {})
    monkeypatch.setenv("CALM_MODELS", "someone/mine")
    first, second = page.choose_model("someone/mine"), page.choose_model("someone/mine")
    next(second)
    shown = next(item for item in first if item[1])
    assert "someone/mine: 120 of 1,500 MB downloaded" in shown[0]
    first.close()  # another visitor still waits
    assert next(second)[1] and not loading("someone/mine").done()
    second.close()
    with pytest.raises(CalmError, match="The download of someone/mine was cancelled; the next one continues it"):
        loading("someone/mine").result(60)
    arriving.set()
    (last, downloading) = list(page.choose_model("someone/mine"))[-1]
    assert "float32" in last and not downloading


def test_a_request_that_comes_while_a_cancelled_download_ends_starts_the_next_one(monkeypatch, tiny, tmp_path):
    from calm.hub import folders
    from calm.hub.saving import save

    save(tiny(), tmp_path / "mine")
    cancelled, ending, asked = threading.Event(), threading.Event(), threading.Event()
    loading = models.loading

    def download(name, revision=None, report=None):
        if ending.is_set():
            return tmp_path / "mine"
        try:
            while True:
                report(120_000_000, 1_500_000_000)
        finally:
            cancelled.set()
            ending.wait(60)

    def observed(name):
        try:
            return loading(name)
        finally:
            asked.set()

    monkeypatch.setattr(folders, "download", download)
    monkeypatch.setattr(models, "STATUS_SECONDS", 0.05)
    monkeypatch.setattr(models, "_loads", {})
    monkeypatch.setenv("CALM_MODELS", "someone/mine")
    first = page.choose_model("someone/mine")
    next(item for item in first if item[1])
    first.close()
    assert cancelled.wait(60)
    second = page.choose_model("someone/mine")
    next(second)
    monkeypatch.setattr(models, "loading", observed)
    with ThreadPoolExecutor(1) as program:
        third = program.submit(models.loaded, "someone/mine")
        assert asked.wait(60)
        ending.set()
        assert third.result(60).name == "someone/mine"
    (last, can_cancel) = list(second)[-1]
    assert "float32" in last and not can_cancel


def test_official_models_are_in_the_menu_with_what_is_published_and_refused_before_they_are_downloaded(monkeypatch):
    monkeypatch.setenv("CALM_ALLOW_MODELS", "0")
    assert not set(OFFICIAL_MODELS) & set(offered())
    monkeypatch.setenv("CALM_ALLOW_MODELS", "1")
    assert set(OFFICIAL_MODELS) < set(offered()) and facts("cccczshao/CALM-M").chunk_size == 4
    entries = {name: label for label, name in page._menu()}
    assert entries["cccczshao/CALM-XL"] == "cccczshao/CALM-XL · 4 tokens per vector · 1.82 B · from the Hub"
    monkeypatch.setenv("CALM_MEMORY", "100MB")
    for name in OFFICIAL_MODELS:
        with pytest.raises(CalmError, match=rf"{name} needs \d+\.\d\d GB of memory and CALM_MEMORY allows 0\.10 GB"):
            loading(name).result()  # without a download, which would fail here in another sentence
        assert "CALM_MEMORY allows" in list(page.choose_model(name))[-1][0]
    monkeypatch.setenv("CALM_MEMORY", "")
    assert (
        entries["cccczshao/CALM-Autoencoder"]
        == "cccczshao/CALM-Autoencoder · 4 tokens per vector · 75 M · from the Hub"
    )
    assert page._official_rows("cccczshao/CALM-Autoencoder")["use"] == "it reconstructs texts and generates none"
    rows = page._official_rows("cccczshao/CALM-M")
    assert rows["parameters"] == "371 M, and 75 M of the autoencoder" and "Pile" in rows["trained on"]


def test_an_autoencoder_alone_is_loaded_for_the_reconstruct_tab(tiny, tmp_path, monkeypatch):
    whole, name = tiny(), str(tmp_path / "autoencoder")
    whole.calm.ae_model.save_pretrained(name)
    whole.tokenizer.save_pretrained(name)
    monkeypatch.setenv("CALM_MODELS", name)
    *_, (shown, _) = page.choose_model(name)
    assert "4 tokens per vector" in shown and "float32" in shown
    *_, last = reconstruct_tab._reconstruct(name, "Once upon a time", 0.0, 0)
    assert len(last.results[0]["chunks"]) == len(calm.reconstruct(whole, "Once upon a time").chunks)
    with pytest.raises(CalmError, match="is an autoencoder, which generates no text; choose a language model"):
        list(generate_tab.stream(loaded(name), run_arguments("Once upon a time", 0.5, 8, 0)))
    with pytest.raises(CalmError, match=r"There is no map of .*: an autoencoder predicts no vectors"):
        loaded(name).require_map()
    assert name in health.health()["memory"] and name not in models.on_fallback()


def test_a_host_chooses_the_default_model():
    code = (
        "from app import registry, story_prompts as prompts; "
        "print(registry.DEFAULT, registry.offered()[0], prompts.random_prompt(registry.DEFAULT) in prompts.ENGLISH)"
    )
    environment = {**os.environ, "CALM_DEFAULT_MODEL": "cccczshao/CALM-M", "CALM_ALLOW_MODELS": "0"}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert process.stdout.split() == ["cccczshao/CALM-M", "cccczshao/CALM-M", "True"]


def test_a_token_by_token_model_generates_and_has_no_map():
    model = loaded("story-ar")
    *_, (run,) = generate_tab.stream(model, run_arguments("Once upon a time", 0.5, 8, 0))
    assert run.payload["model"] == "story-ar" and run.vectors == []
    assert all("predicted" not in step and len(step["token_ids"]) == 1 for step in run.payload["steps"])
    assert "samples per step" not in generate_tab.summary([run])
    for step in run.payload["steps"]:
        chances = [c["probability"] for c in step["candidates"]]
        assert chances == sorted(chances, reverse=True) and 0.5 < sum(chances) <= 1.0001
    request = {"model": "story-ar", "prompt": "Once upon a time", "prefix_chunks": [], "chosen": [1]}
    assert "token by token" in draw_pool(request)["error"]
    assert "token by token" in draw_cloud(request)["error"]


def test_a_race_and_a_concurrent_text_do_not_wait_for_each_other():
    """Both use one engine: the race on the compute thread, the text on a visitor's thread."""
    model, beside = loaded(), loaded("story-ar")
    options = run_arguments("Once", 0.9, 48, 2)
    *_, final = compute.iterate(race([model, beside], options))
    alone = [racer["texts"] for racer in final.payload()["racers"]]
    texts: list[list[int]] = []

    def visit() -> None:
        for _ in range(3):
            *_, (run,) = generate_tab.stream(model, run_arguments("Once upon a time", 0.9, 48, 5))
            texts.append([step["token_ids"] for step in run.payload["steps"]])

    visitors = [threading.Thread(target=visit, daemon=True) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    *_, final = compute.iterate(race([model, beside], options))
    for visitor in visitors:
        visitor.join(timeout=60)
        assert not visitor.is_alive()
    assert [racer["texts"] for racer in final.payload()["racers"]] == alone
    assert len(texts) == 9 and all(text == texts[0] for text in texts)


@pytest.mark.parametrize(
    ("variables", "allowed"),
    [
        ({}, True),
        ({"GRADIO_SERVER_NAME": "::1"}, True),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        ({"GRADIO_SERVER_NAME": "example.org"}, False),
        ({"SPACE_ID": "me/page"}, False),
        ({"GRADIO_ROOT_PATH": "/calm"}, False),
        ({"CALM_ALLOW_MODELS": "0"}, False),
        ({"CALM_ALLOW_MODELS": "1", "GRADIO_SERVER_NAME": "0.0.0.0"}, True),
        ({"CALM_ALLOW_MODELS": "maybe"}, False),
    ],
)
def test_other_models_are_allowed_where_only_this_machine_reaches_the_page(monkeypatch, variables, allowed):
    for name in ("CALM_ALLOW_MODELS", "GRADIO_SERVER_NAME", "SPACE_ID", "GRADIO_ROOT_PATH", "GRADIO_SHARE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert models.allows_other_models() == allowed


def test_a_typed_folder_is_loaded_where_the_host_allows_it_and_refused_in_one_sentence_elsewhere(
    monkeypatch, tiny, tmp_path
):
    from calm.hub.saving import save

    save(tiny(), tmp_path / "typed")
    folder = str(tmp_path / "typed")
    monkeypatch.setattr(models, "_loads", {})
    monkeypatch.setenv("CALM_ALLOW_MODELS", "0")
    ((refused, _),) = page.choose_model(folder)
    assert "this host loads no other models (CALM_ALLOW_MODELS)" in refused
    with pytest.raises(CalmError, match="There is no model 'someone/calm' here"):
        models.check_name("someone/calm")
    monkeypatch.setenv("CALM_ALLOW_MODELS", "1")
    *_, (last, _) = page.choose_model(folder)
    assert folder in last and "float32" in last and folder in models.loaded_names()
    assert models.check_name("someone/calm") == "someone/calm"
    for name in (str(tmp_path / "missing"), "../x", "a/b/c", "a/\x00", "x/" * 3000, "someone/calm?x"):
        with pytest.raises(CalmError, match="a folder of this machine or a Hub id"):
            models.check_name(name)
    with pytest.raises(CalmError, match="There is no model 'nope' here"):
        models.check_name("nope")
    monkeypatch.setattr(models, "MAX_OTHER_MODELS", 1)
    with pytest.raises(CalmError, match="as many models besides its own as it may: 1"):
        models.check_name("someone/calm")
    assert models.check_name(folder) == folder
