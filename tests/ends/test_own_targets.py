"""Targets of each agent's own: masked losses, the dense twin, any number of workers, and figures per agent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from networks import network
from on_workers import columns_of, random_owners

import dist_hdnn
from dist_hdnn.ends.readout import LocalReadout, make_readout
from dist_hdnn.network.dense import DenseTwin
from dist_hdnn.training.evaluation import _spreads
from dist_hdnn.transport import Transport, run_threads

BATCH, AGENTS = 7, 6


def answers(regression: bool, agents: int = AGENTS, targets: int = 2, seed: int = 0) -> torch.Tensor:
    """Targets of all agents, a third of them unknown, all of one sample and of no agent."""
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(BATCH, agents, generator=generator) > 0.3
    known[2] = False
    if not regression:
        return torch.where(known, torch.randint(3, (BATCH, agents), generator=generator), -1)
    values = torch.randn(BATCH, agents, targets, dtype=torch.float64, generator=generator)
    return torch.where(known[..., None], values, math.nan)


def readout_of(net: dist_hdnn.HDNN, regression: bool, agents: list[int] | None = None) -> LocalReadout:
    readout = LocalReadout(net.ownership, 2 if regression else 3, 1, agents, regression, own=True)
    return readout.to(torch.float64)


@pytest.mark.parametrize("regression", [True, False])
def test_the_loss_is_the_mean_over_known_answers_through_the_dense_twin(regression: bool) -> None:
    net = network(dist_hdnn.ring(AGENTS), layers=3)
    readout, labels = readout_of(net, regression), answers(regression)
    y = torch.randn(BATCH, net.neurons, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    twin = DenseTwin(net)
    results = []
    for forward in (net, twin):
        readout.zero_grad()
        start = y.clone().requires_grad_()
        last = forward(start)
        if forward is net:
            loss = readout.loss(readout(last), labels).sum()
        else:  # every known answer by itself
            terms = []
            for agent, block in net.by_agent(last).items():
                columns = slice(2 * agent, 2 * agent + 2)
                scores = block @ readout.weight[:, columns].T + readout.bias[agent]
                for sample in range(BATCH):
                    target = labels[sample, agent]
                    if regression:
                        terms += [(scores[sample, k] - target[k]) ** 2 for k in range(2) if not target[k].isnan()]
                    elif target >= 0:
                        terms.append(-scores[sample].log_softmax(0)[target])
            loss = torch.stack(terms).mean()
        loss.backward()
        results.append([loss.detach(), start.grad, readout.weight.grad.clone(), readout.bias.grad.clone()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("regression", [True, False])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
def test_loss_answers_and_gradients_are_those_of_one_process(
    workers: int, regression: bool, deterministic: bool
) -> None:
    graph, agents, some = dist_hdnn.ring(9), 9, [7, 0, 3, 8]  # in the order of the labels
    options: dict[str, Any] = {"layers": 2, "deterministic": deterministic}
    labels, weights = answers(regression, len(some)), network(graph, **options).state_dict()
    y = torch.randn(BATCH, 2 * agents, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def outcome(transport: Transport | None) -> dict[str, Any]:
        torch.set_num_threads(1)
        partition = "contiguous" if transport is None else random_owners(agents, workers)
        net = network(graph, workers=transport, partition=partition, **options)
        net.load_state_dict(weights)
        readout = readout_of(net, regression, some)
        scores = readout(net(y[:, columns_of(net.owned, np.full(agents, 2))]))
        loss = readout.loss(scores, labels)
        loss.sum().backward()
        assert readout.weight.grad is not None
        gradient = torch.zeros(readout.weight.shape[0], readout.shards["weight"].length, dtype=torch.float64)
        gradient[:, torch.from_numpy(readout.shards["weight"].index)] = readout.weight.grad
        if transport is not None:
            transport.all_reduce(gradient)
        return {"loss": readout.reported_loss(loss), "answers": readout.predict(scores), "gradient": gradient}

    alone = outcome(None)
    assert alone["answers"].shape == ((BATCH, 4, 2) if regression else (BATCH, 4))
    for result in run_threads(workers, outcome, timeout=60):
        if deterministic:
            assert result["loss"] == alone["loss"]
            assert torch.equal(result["answers"], alone["answers"])
            assert torch.equal(result["gradient"], alone["gradient"])
        else:
            assert result["loss"] == pytest.approx(alone["loss"], rel=1e-12)
            torch.testing.assert_close(result["answers"], alone["answers"], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(result["gradient"], alone["gradient"], rtol=1e-12, atol=1e-12)


def test_labels_stand_in_the_order_of_the_agents_as_given() -> None:
    net = network(dist_hdnn.ring(4), layers=1)
    scores = torch.arange(4.0, dtype=torch.float64)[None, :, None].expand(2, 4, 1)  # agent i answers i
    readout = LocalReadout(net.ownership, 1, 0, [2, 0, 3, 1], regression=True, own=True)
    labels = torch.tensor([[2.0, 0.0, 3.0, 1.0]] * 2, dtype=torch.float64)
    assert float(readout.loss(scores, labels).sum()) == 0.0
    assert readout.predict(scores)[0, :, 0].tolist() == [2.0, 0.0, 3.0, 1.0]


def test_nothing_known_is_no_loss_and_no_gradient() -> None:
    net = network(dist_hdnn.ring(4), layers=1)
    readout = LocalReadout(net.ownership, 1, regression=True, own=True).to(torch.float64)
    scores = readout(torch.zeros(3, net.neurons, dtype=torch.float64))
    loss = readout.loss(scores, torch.full((3, 4), math.nan, dtype=torch.float64)).sum()
    loss.backward()
    assert float(loss) == 0.0
    assert readout.bias.grad is not None
    assert not readout.bias.grad.any()


def test_targets_of_another_shape_are_refused() -> None:
    net = network(dist_hdnn.ring(4), layers=1)
    readout = LocalReadout(net.ownership, 3, own=True).to(torch.float64)
    scores = readout(torch.zeros(5, net.neurons, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"expected integer classes of shape \(5, 4\), one for each agent"):
        readout.loss(scores, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected classes from 0 to 2"):
        readout.loss(scores, torch.full((5, 4), 3))
    with pytest.raises(ValueError, match="expected local or agents for targets of each agent's own, got gossip"):
        make_readout("gossip", net.ownership, 3, own=True)


def test_the_spread_of_an_agent_is_that_of_its_known_targets() -> None:
    labels = torch.tensor([[[1.0], [5.0], [math.nan]], [[3.0], [math.nan], [math.nan]], [[5.0], [5.0], [math.nan]]])
    assert _spreads(labels).tolist() == [8.0, 0.0, 0.0]
