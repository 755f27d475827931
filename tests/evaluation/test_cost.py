from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from calm.evaluation.cost import flops_per_token, training_flops_per_token


def counted(work) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


HEADS = {"energy": None, "diffusion": 5, "flow": 4}  # sampling steps


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("k", [1, 4])
def test_a_calm_costs_its_matrix_products(tiny, k, head):
    lm = tiny(k, head=head, num_sampling_steps=HEADS[head])
    model, head = lm.calm, lm.calm.generative_head
    state = torch.zeros(1, model.config.hidden_size)

    def step(draws: int):
        model(torch.zeros(1, k, dtype=torch.long), use_cache=False)
        model.ae_model.decode(head.draw(head.project(state), head.noise((draws, 1), state)))

    for draws in (1, 3):  # the counter does not count attention either
        assert k * flops_per_token(lm, draws) == counted(partial(step, draws))


def test_a_token_by_token_model_costs_its_matrix_products(tiny_ar):
    model = tiny_ar.llama
    flops = counted(lambda: model(torch.zeros(1, 1, dtype=torch.long), use_cache=False))
    assert flops_per_token(tiny_ar) == flops


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("k", [1, 4])
def test_training_costs_three_forward_passes_and_the_targets(tiny, tiny_ar, k, head):
    assert training_flops_per_token(tiny_ar) == 3 * flops_per_token(tiny_ar)
    lm = tiny(k, head=head, num_sampling_steps=HEADS[head])
    model, head = lm.calm, lm.calm.generative_head
    state = torch.zeros(1, model.config.hidden_size)
    chunk = torch.zeros(1, k, dtype=torch.long)

    def forward():
        model(chunk, use_cache=False)
        if lm.calm.config.head == "energy":  # the energy score adds products of samples, which are not counted
            head.sample(state, model.config.num_samples)
        else:
            mean = torch.zeros(1, model.config.latent_size)
            head.loss(state, mean, mean)

    targets = counted(lambda: model.ae_model.encode(chunk))
    assert k * training_flops_per_token(lm) == 3 * counted(forward) + targets
