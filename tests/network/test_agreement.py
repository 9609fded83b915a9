"""Workers notice that their batches differ, before they compute with them, by messages between neighbors alone."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import networkx as nx
import pytest
import torch
from networks import hdnn
from own_loops import Loop, loop_on
from torch import Tensor

import dist_hdnn
from dist_hdnn.ends.readout import LocalReadout
from dist_hdnn.network.agreement import MOST, fingerprint
from dist_hdnn.transport import DisagreementError, Transport, run_threads


def other_on_worker_1(loop: Loop, values: Tensor, other: Tensor) -> Tensor:
    """A tensor, and another one on worker 1."""
    assert loop.workers is not None
    return other if loop.workers.rank == 1 else values


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("what", ["samples", "features", "labels"])
def test_a_batch_that_differs_on_one_worker_is_named(what: str, workers: int) -> None:
    def part(transport: Transport) -> None:
        loop = loop_on(transport)
        if what == "samples":
            loop.net(other_on_worker_1(loop, loop.net.local(loop.states), loop.net.local(loop.states)[:7]))
        elif what == "features":
            loop._replace(states=other_on_worker_1(loop, loop.states, loop.states.flip(0))).loss()
        else:
            changed = loop.labels.clone()
            changed[3] = (changed[3] + 1) % 3
            loss = loop._replace(labels=other_on_worker_1(loop, loop.labels, changed)).loss()
            loss.backward()

    with pytest.raises(
        DisagreementError, match=f"workers disagree: expected the same {what} on workers . and ."
    ) as told:
        run_threads(workers, part, timeout=10)
    assert told.value.exit_code == 3
    if what == "samples":
        assert {"10", "7"} <= set(str(told.value).replace(";", " ").split())


OTHERS: dict[str, dict[str, Any]] = {
    "graph": {"graph": nx.gnp_random_graph(6, 0.8, seed=1)},
    "layers": {"layers": 4},
    "step": {"step": 0.4},
    "activation": {"activation": "sin"},
    "owners": {"partition": [0, 1, 0, 1, 0, 1]},
    "memory": {"memory": "recompute"},
    "pattern": {"K": {"kind": "thinned", "keep": 0.5, "seed": 1}},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_network_that_differs_on_one_worker_is_told_before_its_first_sweep(what: str) -> None:
    def part(transport: Transport) -> None:
        options = {"graph": dist_hdnn.ring(6), "width": 4, "layers": 3} | (OTHERS[what] if transport.rank else {})
        net = hdnn(workers=transport, **options)
        net(net.local(torch.ones(3, 24)))

    with pytest.raises(DisagreementError, match="expected the same network on workers . and .*seed what draws it"):
        run_threads(2, part, timeout=10)


@pytest.mark.parametrize("what", ["seed", "seed of a readout", "checkpoint"])
def test_weights_that_begin_differently_on_one_worker_are_told(what: str) -> None:
    def part(transport: Transport) -> None:
        loop = loop_on(transport, seed=transport.rank if what == "seed" else 0)
        if what == "seed of a readout":
            loop = loop._replace(readout=LocalReadout(loop.net.ownership, 3, seed=transport.rank).double())
        if what == "checkpoint":
            loop.net.load_state_dict({k: v + transport.rank for k, v in loop.net.state_dict().items()})
        loop.loss()

    with pytest.raises(DisagreementError, match="expected the same initial weights on workers . and .*same seeds"):
        run_threads(2, part, timeout=10)


@pytest.mark.parametrize("what", ["frozen biases", "readout alone", "a copy of the network"])
def test_gradients_clipped_apart_are_told_whichever_they_are(what: str) -> None:
    def part(transport: Transport) -> None:
        loop = loop_on(transport)
        if what == "frozen biases":
            loop.net.bp.requires_grad_(False)
            loop.net.bq.requires_grad_(False)
        if what == "a copy of the network":
            loop = loop._replace(net=copy.deepcopy(loop.net))
        optimizer = torch.optim.SGD(loop.parameters, lr=0.1)
        for _ in range(2):
            loop.backward()
            clipped = loop.readout if what == "readout alone" else loop.net
            torch.nn.utils.clip_grad_norm_(clipped.parameters(), 1e-3)
            optimizer.step()

    with pytest.raises(DisagreementError, match="expected the same factor on gradients"):
        run_threads(2, part, timeout=10)


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_weights_and_gradients_that_symmetry_makes_alike_are_no_copies(constant: float) -> None:
    def part(transport: Transport) -> float:
        loop = loop_on(transport)
        for parameter in loop.parameters:
            torch.nn.init.constant_(parameter, constant)
        optimizer = torch.optim.SGD(loop.parameters, lr=0.1)
        before = loop.loss().item()
        for limit in (1e-9, 1e-4):
            loop.backward()
            torch.nn.utils.clip_grad_value_(loop.parameters, limit)
            optimizer.step()
        return before - loop.loss().item()

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither a disagreement nor a warning of equal weights
        assert sum(run_threads(2, part, timeout=10)) > 0, "two steps lower the loss"


def test_agents_that_begin_with_the_same_weights_are_warned_of_and_may_go_on() -> None:
    def part(transport: Transport) -> None:
        loop = loop_on(transport)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in loop.net.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
        optimizer = torch.optim.SGD(loop.parameters, lr=0.1)
        for _ in range(4):
            loop.backward()
            optimizer.step()

    with pytest.warns(UserWarning, match="expected weights of each one's own agents .* got the same on both"):
        run_threads(2, part, timeout=10)


def test_comparing_sends_little_and_to_neighbors_alone() -> None:
    def part(transport: Transport) -> tuple[dict[str, int], dict[str, int]]:
        loop = loop_on(transport)
        before = transport.sent()
        loop.backward()
        peers = set((transport.sent() - before)[:, 0].nonzero()[0].tolist())
        assert peers == {(transport.rank - 1) % 6, (transport.rank + 1) % 6}
        return loop.net.ownership.ledger.totals()["check"], loop.net.traffic()

    for check, traffic in run_threads(6, part, timeout=30):
        assert check == {"rounds": 2, "messages": 4, "bytes": 672, "collective_messages": 0}
        assert traffic["non_neighbour_messages"] == 0 and traffic["rounds"] == 2 * 3 * 4


def test_nothing_is_compared_where_that_is_switched_off_or_unknown() -> None:
    def part(transport: Transport) -> dict[str, int]:
        loop = loop_on(transport, check_batches=False)
        loop._replace(states=other_on_worker_1(loop, loop.states, loop.states.flip(0))).backward()
        checked = loop_on(transport)
        if transport.rank == 1:  # looks at something of its own
            checked.net.local(checked.states.flip(0))
            with torch.no_grad():
                checked.readout.loss(torch.zeros(10, 3, 3), checked.labels.flip(0))
        checked.backward()
        return loop.net.ownership.ledger.totals()["check"]

    for check in run_threads(2, part, timeout=10):
        assert check["messages"] == 0


def test_fingerprints_tell_shape_type_and_every_number_apart() -> None:
    values = torch.arange(24.0)
    alike = values.clone()
    assert fingerprint(values) == fingerprint(alike) > 0
    alike[17] += 1e-5
    others = [alike, values.view(4, 6), values.double(), values.flip(0), values[:23]]
    assert len({fingerprint(v) for v in (values, *others)}) == 1 + len(others)
    large = torch.zeros(3 * MOST, 2)
    assert fingerprint(large) != fingerprint(large + 1) and fingerprint(torch.zeros(())) > 0
