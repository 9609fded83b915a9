"""A state hook sees every layer's state as the sweep computes it, each worker of its agents, and changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import network, quiet_graph
from torch import Tensor

from dist_hdnn.transport import run_threads


def batch_for(net: Any) -> Tensor:
    return torch.randn(5, net.neurons, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_a_hook_sees_the_states_that_the_network_has(training: bool) -> None:
    net = network(quiet_graph("grid"), width=4, layers=3)
    y, seen = batch_for(net), dict[int, Tensor]()
    handle = net.register_state_hook(lambda layer, state: seen.update({layer: state}))
    with torch.set_grad_enabled(training):
        output = net(y)
    assert list(seen) == [0, 1, 2, 3] and not any(state.requires_grad for state in seen.values())
    assert torch.equal(torch.stack(list(seen.values())), net.states(y))
    assert torch.equal(seen[3], output.detach())
    seen.clear()
    handle.remove()
    net(y)
    assert not seen


def test_a_hook_that_writes_to_its_state_changes_nothing() -> None:
    net = network(quiet_graph("ring"), width=2, layers=3)
    y = batch_for(net)
    net(y).sum().backward()
    expected, gradients = net(y).detach(), [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    with net.register_state_hook(lambda layer, state: state.fill_(7.0)):
        output = net(y)
        output.sum().backward()
    assert torch.equal(output, expected)
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True) if p.grad is not None)


@pytest.mark.parametrize("memory", ["store", "recompute", "reversible"])
def test_a_hook_is_called_once_a_forward_whatever_the_backward_repeats(memory: str) -> None:
    net = network(quiet_graph("ring"), width=2, layers=3, memory=memory)
    y, layers, seen = batch_for(net), list[int](), list[torch.Tensor]()
    with net.register_state_hook(lambda layer, state: (layers.append(layer), seen.append(state))):
        output = net(y).sum()
        output.backward(retain_graph=True)
        output.backward()
        net.states(y)
        net.linearize(y).close()
    assert layers == [0, 1, 2, 3]
    assert torch.equal(torch.stack(seen), net.states(y))


def test_every_worker_sees_the_columns_of_its_own_agents() -> None:
    whole = network(quiet_graph("grid"), width=4, layers=2)
    y = batch_for(whole)
    expected = whole.states(y)

    def part(transport: Any) -> tuple[list[int], dict[int, dict[int, Tensor]]]:
        net = network(quiet_graph("grid"), width=4, layers=2, workers=transport)
        net.load_state_dict(whole.state_dict())
        seen = dict[int, dict[int, Tensor]]()
        with net.register_state_hook(lambda layer, state: seen.update({layer: net.by_agent(state)})):
            net(net.local(y)).sum().backward()
        return net.owned.tolist(), seen

    agents = []
    for owned, seen in run_threads(3, part):
        agents += owned
        for layer, states in seen.items():
            assert list(states) == owned
            for agent, state in states.items():
                assert torch.allclose(state, expected[layer][:, 4 * agent : 4 * agent + 4], rtol=0, atol=1e-12)
    assert sorted(agents) == list(range(12))


def test_states_are_taken_apart_by_agent_with_gradients() -> None:
    net = network(quiet_graph("ring"), width={i: 2 + 2 * (i % 2) for i in range(8)}, layers=1)
    y = batch_for(net).requires_grad_()
    blocks = net.by_agent(y)
    assert [block.shape[1] for block in blocks.values()] == net.widths.tolist()
    assert torch.equal(torch.cat(list(blocks.values()), dim=1), y)
    blocks[3].sum().backward()
    assert y.grad is not None and np.flatnonzero(y.grad[0].numpy()).tolist() == [8, 9, 10, 11]
    assert net.local(y) is y


def test_columns_that_do_not_fit_are_refused_with_what_to_do() -> None:
    def part(transport: Any) -> None:
        net = network(quiet_graph("ring"), width=2, layers=1, workers=transport)
        y = torch.zeros(5, 16, dtype=torch.float64)
        with pytest.raises(ValueError, match="HDNN: expected.*, 8.*got.*16.*local\\(state\\) takes"):
            net(y)
        with pytest.raises(ValueError, match="by_agent: expected"):
            net.by_agent(y)
        with pytest.raises(ValueError, match="local: expected a state of the whole network, \\(batch, 16\\), got"):
            net.local(y[:, :8])

    run_threads(2, part)
