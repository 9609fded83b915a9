"""Learned lifts: each agent's own map of what it sees, the same weights whoever owns the agents."""

import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn import Execution
from dist_hdnn.data.views import column_views, even_views, patches
from dist_hdnn.ends.lift import ConvLift, LinearLift
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.transport import run_threads

WIDTHS = np.array([4, 2, 6, 2])


def ownership(transport=None, widths=WIDTHS, ordered=False) -> Ownership:
    return Ownership(
        dist_hdnn.path(len(widths)), widths, transport, "round_robin", execution=Execution(deterministic=ordered)
    )


def make(kind: str, owned: Ownership) -> LinearLift | ConvLift:
    """In float64, with weights and biases away from zero."""
    views = patches((4, 4, 1), 2, 2) if kind == "conv" else VIEWS[kind]
    if kind == "conv":
        lift = ConvLift(owned, 16, views.starts, views.columns, (2, 2, 1), channels=3, pool=2, seed=5)
    else:
        lift = LinearLift(owned, views.features, views.starts, views.columns, seed=5)
    lift = lift.double()
    state = lift.state_dict()
    generator = torch.Generator().manual_seed(0)
    lift.load_state_dict(
        {name: value + torch.rand(value.shape, generator=generator, dtype=value.dtype) for name, value in state.items()}
    )
    return lift


VIEWS = {
    "patches": patches((4, 4, 1), 2, 2),
    "uneven": even_views(5, 4),
    "one sees all": column_views(["a", "b", "c"], {"a": 2, "b": 2, "c": 2}, 4),
}
KINDS = [*VIEWS, "conv"]


def samples(kind: str) -> torch.Tensor:
    features = 16 if kind == "conv" else VIEWS[kind].features
    return torch.randn(6, features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("kind", VIEWS)
def test_a_linear_lift_is_each_agents_matrix_times_what_it_sees(kind: str) -> None:
    lift, views, x = make(kind, ownership()), VIEWS[kind], samples(kind)
    weight, bias, expected = lift.linear.weight, lift.linear.bias, []
    sizes, start, neuron = views.sizes, 0, 0
    for agent, width in enumerate(WIDTHS):
        block = weight[start : start + width * sizes[agent]].view(width, sizes[agent])
        seen = x[:, views.columns[views.starts[agent] : views.starts[agent + 1]]]
        expected.append(seen @ block.t() + bias[neuron : neuron + width])
        start, neuron = start + width * sizes[agent], neuron + width
    assert start == len(weight)
    assert torch.allclose(lift(x), torch.cat(expected, dim=1), rtol=0, atol=1e-14)


def test_a_conv_lift_is_each_agents_filters_on_its_patch() -> None:
    lift, x = make("conv", ownership()), samples("conv")
    state, columns = lift(x), np.concatenate([[0], np.cumsum(WIDTHS)])
    for agent in range(4):
        row, column = divmod(agent, 2)
        patch = x.view(6, 1, 4, 4)[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        found = torch.conv2d(patch, lift.filters[agent].view(3, 1, 3, 3), lift.filter_bias[agent], padding=1).relu()
        found = torch.max_pool2d(found, 2).flatten(1)
        starts = 3 * columns
        weight = lift.linear.weight[starts[agent] : starts[agent + 1]].view(WIDTHS[agent], 3)
        expected = found @ weight.t() + lift.linear.bias[columns[agent] : columns[agent + 1]]
        assert torch.allclose(state[:, columns[agent] : columns[agent + 1]], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_workers_have_the_columns_weights_and_gradients_of_their_agents(kind: str, workers: int) -> None:
    x, alone = samples(kind), make(kind, ownership())
    state = alone(x)
    cotangent = torch.randn(state.shape, generator=torch.Generator().manual_seed(2), dtype=state.dtype)
    state.backward(cotangent)
    whole = alone.state_dict()
    starts = np.concatenate([[0], np.cumsum(WIDTHS)])

    def part(transport):
        owned = ownership(transport)
        lift = make(kind, owned)
        assert all(torch.equal(value, whole[name]) for name, value in lift.state_dict().items())
        columns = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in owned.agents])
        output = lift(x)
        output.backward(cotangent[:, columns])
        gradients = [parameter.grad.sum() for parameter in lift.parameters()]
        return columns, output.detach(), torch.stack(gradients)

    total = torch.zeros(len(list(alone.parameters())), dtype=torch.float64)
    for columns, output, gradients in run_threads(workers, part):
        assert torch.allclose(output, state[:, columns], rtol=0, atol=1e-13)
        total += gradients
    expected = torch.stack([parameter.grad.sum() for parameter in alone.parameters()])
    assert torch.allclose(total, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_deterministic_lifts_give_the_same_bits_on_any_number_of_workers(kind: str) -> None:
    torch.set_num_threads(1)
    x = samples(kind).repeat(20, 1)

    def run(transport=None):
        owned = ownership(transport, ordered=True)
        lift = make(kind, owned)
        output = lift(x)
        output.backward(output.detach())
        for parameter in lift.parameters():
            parameter.data = parameter.grad
        return lift.state_dict()

    alone = run()
    for result in run_threads(3, run):
        assert all(torch.equal(result[name], alone[name]) for name in alone)


def test_the_start_depends_on_seed_and_agent_and_has_variance_one_over_features() -> None:
    views = patches((28, 28, 1), 4, 4)
    owned = ownership(widths=np.full(16, 64))
    lifts = (LinearLift(owned, 784, views.starts, views.columns, seed) for seed in (0, 0, 1))
    first, again, other = (lift.linear.weight.detach() for lift in lifts)
    assert torch.equal(first, again) and not torch.equal(first, other)
    blocks = first.view(16, -1)
    assert abs(float(blocks.var()) * 49 - 1) < 0.05 and not torch.equal(blocks[0], blocks[1])


def test_features_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lift: expected input of shape \(batch, 16\), got \(3, 15\)"):
        make("patches", ownership())(torch.zeros(3, 15, dtype=torch.float64))
