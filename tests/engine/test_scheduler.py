import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

import calm
from calm.engine import Backend, ComputeThread, create_engine, engine_for
from calm.engine.backbone import CpuBackboneStep, make_backbone_step
from calm.engine.scheduler import SLOTS
from calm.generation import GenerationOptions, Queued, Step, stream

from ..conftest import fixed_weights

PROMPTS = ["", "Once upon a time", "A story about a shy fox named Mia and a fear of thunder.\n", "word " * 40]


def backbone(**changes) -> LlamaModel:
    fields = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    fields |= {"num_attention_heads": 4, "max_position_embeddings": 512}
    model = LlamaModel(LlamaConfig(**{**fields, **changes})).eval()
    fixed_weights(model)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 2},
        {"head_dim": 16},
        {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            }
        },
    ],
)  # fmt: skip
@pytest.mark.parametrize("compiled", [True, False])
@torch.inference_mode()
def test_the_cached_backbone_computes_what_transformers_computes(changes, compiled):
    model = backbone(**changes)
    rows = [torch.sin(torch.arange(n * 32.0)).view(n, 32) * (1 + n % 3) for n in (300, 3, 70)]
    expected = [model(inputs_embeds=row[None], use_cache=False).last_hidden_state[0] for row in rows]
    cached = make_backbone_step(model, slots=4, backend=None if compiled else Backend.PYTORCH)
    assert isinstance(cached, CpuBackboneStep) == compiled
    seen = [0, 0, 0]

    def read(counts: dict[int, int]) -> None:
        """Some slots read on, and the last state of each is that of transformers."""
        parts = [rows[slot][seen[slot] : seen[slot] + count] for slot, count in counts.items()]
        states = cached.step(list(counts), list(counts.values()), torch.cat(parts))
        for state, (slot, count) in zip(states, counts.items()):
            seen[slot] += count
            assert torch.allclose(state, expected[slot][seen[slot] - 1], atol=1e-5)

    read({1: 1})
    read({2: 5, 1: 1, 0: 290})  # some begin, one of them beyond one reservation of the cache, while another goes on
    for _ in range(10):
        read({slot: 1 for slot in range(3) if seen[slot] < len(rows[slot])})
    assert seen == [300, 3, 15]
    cached.reset(2)
    seen[2] = 0
    read({2: 40})


def test_fused_weights_are_the_models_own():
    model = backbone(num_key_value_heads=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cached = make_backbone_step(model, slots=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.layers[0].self_attn.k_proj.weight.data.zero_()
    assert not cached.layers[0].qkv.weight[32:48].any()  # one memory: what changes the model changes its steps


def write(lm, seed: int, **options):
    return calm.generate(lm, PROMPTS[seed % 4], **{"temperature": 0.8, "max_new_tokens": 48, "seed": seed, **options})


def told(steps) -> list[list[int]]:
    return [step.token_ids for step in steps]


def in_turns(runs) -> list[list[list[int]]]:
    """What the runs tell, a step of each in turn."""
    found: list[list] = [[] for _ in runs]
    left = dict(enumerate(runs))
    while left:
        for i, run in list(left.items()):
            step = next(run, None)
            if step is None:
                del left[i]
            else:
                found[i].append(step.token_ids)
    return found


def test_a_text_is_the_same_alone_and_among_others(story):
    options = [{"temperature": 0.3 + 0.15 * i, "sampler": ("auto", "pooled")[i % 2]} for i in range(SLOTS)]
    alone = [told(write(story, i, **options[i])) for i in range(SLOTS)]
    assert in_turns([write(story, i, **options[i]) for i in range(SLOTS)]) == alone


def test_visitors_in_threads_get_their_own_texts(story):
    alone = [told(write(story, i)) for i in range(2 * SLOTS)]
    found: list = [None] * len(alone)

    def visit(i: int) -> None:
        found[i] = told(write(story, i))

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(len(alone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == alone


@pytest.fixture
def reads(story, monkeypatch) -> list[tuple[int, int]]:
    """Of each backbone step of an engine that has begun with the test: how many texts read, and how many are active."""
    engine, found = create_engine(story), []
    step = engine.backbone.step

    def watched(slots, counts, inputs):
        found.append((len(slots), len(engine._active())))
        return step(slots, counts, inputs)

    monkeypatch.setattr(engine.backbone, "step", watched)
    return found


def test_texts_are_written_together(story, reads):
    runs = [write(story, 1, temperature=1.0, max_new_tokens=160) for _ in range(4)]
    steps = list(zip(*runs))
    assert len(reads) < 2 * len(steps), "four texts took more than one backbone step for each of their chunks"
    assert max(together for together, _ in reads) == 4


def test_a_step_waits_until_half_of_the_texts_have_something_to_read(story, reads):
    assert list(zip(*(write(story, i, max_new_tokens=160) for i in range(4))))
    shares = [together / active for together, active in reads]
    assert min(shares) >= 0.5 and any(0.5 <= share < 1 for share in shares)  # nor does it wait for all


def test_more_texts_than_slots_wait_in_order_and_all_are_written(tiny):
    lm = tiny(4)
    runs = [calm.generate(lm, "x", max_new_tokens=40, pool_size=4, seed=i) for i in range(SLOTS + 3)]
    for run in runs[:SLOTS]:
        next(run)
    assert engine_for(lm).queue == type(engine_for(lm).queue)()
    firsts = [next(run) for run in runs[SLOTS:]]  # one thread alone: those that wait write the others to their end
    assert [step.index for step in firsts] == [0, 0, 0]
    for i, run in enumerate(runs):
        assert len(list(run)) == 9, i


def test_waiting_texts_know_their_place(tiny):
    lm = tiny(4)
    running = [calm.generate(lm, "x", max_new_tokens=160, pool_size=4, seed=i) for i in range(SLOTS)]
    for run in running:
        next(run)
    events = [stream(lm, "x", GenerationOptions(max_new_tokens=8, pool_size=4)) for _ in range(3)]
    assert [next(run) for run in events] == [Queued(0), Queued(1), Queued(2)]
    events[0].close()
    assert next(events[2]) == Queued(1)
    for run in running:
        run.close()
    assert [type(event) for event in events[2]] == [Step, Step]


def test_a_closed_text_frees_its_slot_and_disturbs_nobody(story):
    alone = told(write(story, 3))
    closed, kept = write(story, 1), write(story, 3)
    first = next(kept)
    next(closed)
    closed.close()
    assert [first.token_ids, *told(kept)] == alone
    list(write(story, 0))
    assert len(engine_for(story).running) <= 1


def test_nobody_runs_far_ahead_of_a_slow_reader(tiny, monkeypatch):
    monkeypatch.setattr("calm.engine.scheduler.UNREAD_LIMIT", 8)
    lm = tiny(4)
    slow, quick = (calm.generate(lm, "x", max_new_tokens=120, pool_size=4, seed=i) for i in (0, 1))
    next(slow)
    list(quick)
    assert max(len(w.results) for w in engine_for(lm).running) == 8
    assert len(list(slow)) == 29


def test_what_fails_below_reaches_whoever_waits(story, monkeypatch):
    begun: list[int] = []
    found: list = []

    def failing(*_) -> None:
        while len(begun) < 3:
            time.sleep(0.001)
        raise RuntimeError("out of memory")

    def visit(i: int) -> None:
        begun.append(i)
        try:
            found.append(told(write(story, i)))
        except RuntimeError as error:
            found.append(str(error))

    with ComputeThread() as executor, ThreadPoolExecutor(3) as visitors:
        engine = create_engine(story, executor)
        step = engine.backbone.step
        monkeypatch.setattr(engine.backbone, "step", failing)
        assert all(run.result(60) is None for run in [visitors.submit(visit, i) for i in range(3)])
        assert found == ["out of memory"] * 3
        monkeypatch.setattr(engine.backbone, "step", step)
        visitors.submit(visit, 0).result(60)
        create_engine(story)
    assert found[3] == told(write(story, 0))


def test_an_error_reaches_its_own_reader_only(tiny, monkeypatch):
    import calm.engine.samplers

    monkeypatch.setattr(calm.engine.samplers, "EXACT_LIMIT", 50)
    lm = tiny(4)
    torch.manual_seed(0)
    lm.calm.generative_head.final_layer.linears[2].weight.data.normal_(std=5)  # every draw another chunk
    good = calm.generate(lm, "x", max_new_tokens=40, pool_size=8)
    bad = calm.generate(lm, "x", temperature=0.1, sampler="exact", max_new_tokens=40)
    next(good)
    with pytest.raises(calm.CalmError, match="did not accept"):
        next(bad)
    assert len(list(good)) == 9
