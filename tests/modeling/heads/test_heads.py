"""The interface of all heads, and the processes of the diffusion and flow heads."""

import pytest
import torch
from transformers import AutoModel

from calm.errors import CalmError
from calm.modeling.calm import MODELS, model_class
from calm.modeling.heads import diffusion, flow
from calm.modeling.losses import energy_score, matched_distance

from ...conftest import fixed_weights, tiny_config

HEADS = list(MODELS)
STEPS = {"energy": None, "diffusion": 12, "flow": 6}


def head_of(kind: str, **changes):
    model = model_class(kind)(tiny_config(num_sampling_steps=STEPS[kind], **changes)).eval()
    fixed_weights(model)
    return model.generative_head


def hidden(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 32, generator=torch.Generator().manual_seed(3))


class Stub(torch.nn.Module):
    """Stands for a head's network; its output at a position is ``function(x, time)``."""

    def __init__(self, function, head):
        super().__init__()
        self.function, self.cond_embed = function, torch.nn.Identity()
        self.time_embed = lambda t: t[:, None].float()

    def evaluate(self, x, condition, rows=None):
        return self.function(x, condition[..., :1])

    def forward(self, x, t, states):
        return self.function(x, t[..., None])


@pytest.mark.parametrize("kind", HEADS)
@torch.no_grad()
def test_a_draw_depends_on_its_noise_alone(kind):
    head, states = head_of(kind), hidden(2, 3)
    noise = head.noise((5, 2, 3), states, torch.Generator().manual_seed(0))
    assert noise.shape == (5, 2, 3, *head.noise_shape)
    draws = head(states, noise)
    assert draws.shape == (5, 2, 3, 16)
    assert torch.allclose(head(states[1, 2], noise[4, 1, 2]), draws[4, 1, 2], rtol=1e-4)
    assert torch.allclose(head(states[:1], noise[2:4, :1]), draws[2:4, :1], rtol=1e-4)
    rows = torch.tensor([2, 0, 2])
    assert torch.allclose(
        head.draw(head.project(states[1]), noise[:3, 1, 0], rows), head(states[1, rows], noise[:3, 1, 0]), rtol=1e-4
    )
    same = head.sample(states, 5, torch.Generator().manual_seed(0))
    assert torch.equal(same, draws) and not torch.equal(head.sample(states, 5, torch.Generator().manual_seed(1)), draws)


@pytest.mark.parametrize("kind", HEADS)
def test_the_loss_is_one_number_a_position_and_trains_every_weight(kind):
    head = model_class(kind)(tiny_config(num_sampling_steps=STEPS[kind])).generative_head
    fixed_weights(head)
    states, mean, std = hidden(2, 3), torch.zeros(2, 3, 16), torch.ones(2, 3, 16)
    losses = [head.loss(states, mean, std, 8, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert losses[0].shape == (2, 3) and torch.equal(*losses)
    losses[0].mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    alone = head.loss(states, mean, std, 0, torch.Generator().manual_seed(0))
    assert torch.equal(alone, head.loss(states, mean, 9 * std, 0, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("kind", ["diffusion", "flow"])
def test_new_networks_output_zero(kind):
    head = model_class(kind)(tiny_config()).generative_head
    assert not head.net(torch.randn(4, 16), torch.zeros(4), hidden(4)).any()
    assert head.net.res_blocks[0].mlp[0].weight.std() > 0


@pytest.mark.parametrize("kind", HEADS)
def test_transformers_loads_the_class_of_the_head(kind, tmp_path):
    model = model_class(kind)(tiny_config(num_sampling_steps=STEPS[kind]))
    fixed_weights(model)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is type(model) and again.config.head == kind
    assert again.generative_head.num_sampling_steps == (STEPS[kind] or 1)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_unknown_heads_and_impossible_steps_are_reported_in_one_sentence():
    with pytest.raises(CalmError, match="must be one of energy, diffusion, flow, not 'flwo'"):
        model_class("flwo")
    for kind, steps in (("diffusion", 1), ("diffusion", 1001), ("flow", 5), ("flow", -2)):
        with pytest.raises(CalmError, match=rf"not {steps:,}\b"):
            model_class(kind)(tiny_config(num_sampling_steps=steps))


@torch.no_grad()
def test_a_bound_keeps_the_draws_of_an_untrained_diffusion_head_small():
    draws = {bound: head_of("diffusion", latent_bound=bound).sample(hidden(1, 32), 50) for bound in (None, 3.0)}
    assert draws[3.0].abs().max() <= 3 < draws[None].abs().max()


@pytest.mark.parametrize("steps", [10, 100, 1000])
@torch.no_grad()
def test_diffusion_with_the_true_noise_draws_the_data(steps):
    """Normal data of mean 2 and standard deviation 0.5: the expected noise in x_t is known."""
    head = model_class("diffusion")(tiny_config(num_sampling_steps=steps)).generative_head
    constants = diffusion.schedule()

    def network(x, t):
        index = t.long().flatten()[0]
        signal, noise = float(constants.signal[index]), float(constants.noise[index])
        expected = noise * (x - signal * 2) / (signal**2 * 0.25 + noise**2)
        return torch.cat([expected, torch.zeros_like(x)], -1)

    head.net = Stub(network, head)
    draws = head.sample(torch.zeros(1), 2000, torch.Generator().manual_seed(0))
    assert draws.mean().item() == pytest.approx(2, abs=0.02)
    assert draws.std().item() == pytest.approx(0.5, rel=0.25 if steps == 10 else 0.05)


@torch.no_grad()
def test_diffusion_with_the_true_noise_of_one_point_draws_it():
    head = head_of("diffusion")
    constants, point = diffusion.schedule(), torch.linspace(-2, 2, 16)

    def network(x, t):
        index = t.long().flatten()[0]
        noise = (x - float(constants.signal[index]) * point) / float(constants.noise[index])
        return torch.cat([noise, torch.zeros_like(x)], -1)

    head.net = Stub(network, head)
    assert torch.allclose(head.sample(torch.zeros(1), 7), point.expand(7, 16), atol=1e-4)


def test_the_variational_bound_trains_the_variance_alone():
    """With the true mean of x_{t-1} and the smallest variance, only the squared error of the noise is left."""
    head, noise, target = head_of("diffusion"), torch.randn(4, 16), torch.randn(4, 16)
    t = torch.tensor([1, 10, 500, 900])
    output = torch.cat([noise, -torch.ones_like(noise)], -1).requires_grad_()
    head.net = Stub(lambda x, time: output, head)
    assert torch.allclose(head.loss_at(hidden(4), target, t, noise), torch.zeros(4), atol=1e-4)
    wrong = torch.cat([noise + 1, torch.zeros_like(noise)], -1).requires_grad_()
    head.net = Stub(lambda x, time: wrong, head)
    head.loss_at(hidden(4), target, t, noise).sum().backward()
    assert torch.allclose(wrong.grad[:, :16], torch.full((4, 16), 2 / 16))
    assert wrong.grad[:, 16:].abs().min() > 0


def test_the_last_step_is_scored_by_the_probability_of_a_bin():
    x = torch.linspace(-1, 1, 256, dtype=torch.float64)
    spread = torch.zeros_like(x)
    total = diffusion.bin_log_likelihood(x, spread + 0.2, spread - 1).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-9)


def test_the_schedule_spaces_its_steps_evenly():
    full, some = diffusion.schedule(), diffusion.schedule(100)
    assert some.timesteps[[0, 1, 6, -2, -1]].tolist() == [0, 10, 61, 989, 999]
    assert (some.signal == full.signal[some.timesteps]).all()
    assert all(values.shape == (100,) for values in some)


@pytest.mark.parametrize("steps", [2, 20])
@torch.no_grad()
def test_flow_integrates_the_velocity_by_the_midpoint_rule(steps):
    head = model_class("flow")(tiny_config(num_sampling_steps=steps)).generative_head
    noise = head.noise((3,), torch.zeros(1), torch.Generator().manual_seed(0))
    head.net = Stub(lambda x, time: 2 * time / flow.TIME_SCALE + 0 * x, head)  # the rule is exact for t^2
    assert torch.allclose(head(torch.zeros(1), noise), noise + 1, atol=1e-5)


def test_the_flow_loss_compares_with_the_straight_velocity():
    head, target, noise = head_of("flow"), torch.randn(3, 16), torch.randn(3, 16)
    t, given = torch.tensor([0.0, 0.25, 1.0]), []
    head.net = Stub(lambda x, time: given.append(x) or target - noise + 2, head)
    assert torch.allclose(head.loss_at(hidden(3), target, t, noise), torch.full((3,), 4.0))
    assert torch.allclose(given[0], noise + t[:, None] * (target - noise))


@torch.no_grad()
def test_the_energy_head_is_trained_against_several_targets_by_both_losses():
    head, states, targets = head_of("energy"), hidden(3), torch.randn(3, 4, 16)
    samples = head.sample(states, 4, torch.Generator().manual_seed(0)).movedim(0, -2)
    expected = energy_score(samples, targets, head.beta) / 2 + matched_distance(samples, targets, head.beta)
    assert torch.allclose(head.loss_against(states, targets, torch.Generator().manual_seed(0)), expected)
    equal = targets[:, :1].expand(3, 4, 16)  # one draw suffices
    draw = head.sample(states, 1, torch.Generator().manual_seed(0))[0]
    expected = (draw - equal[:, 0]).norm(dim=-1) ** head.beta
    assert torch.allclose(head.loss_against(states, equal, torch.Generator().manual_seed(0)), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["diffusion", "flow"])
@torch.no_grad()
def test_other_heads_are_trained_against_the_first_of_several_targets(kind):
    head, states, targets = head_of(kind), hidden(3), torch.randn(3, 4, 16)
    single = head.loss(states, targets[:, 0], torch.zeros(3, 16), 0, torch.Generator().manual_seed(0))
    assert torch.equal(head.loss_against(states, targets, torch.Generator().manual_seed(0)), single)
