"""Predicted times, bytes and joules of agents that work in rounds over their links."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dist_hdnn import HDNN, Execution, path, ring, star
from dist_hdnn.config.files import read_config
from dist_hdnn.inspection import inspect
from dist_hdnn.inspection.timing import answer, training_step
from dist_hdnn.links.cost import Agents, Coupling, Round, Timeline, Work, timeline
from dist_hdnn.links.table import LinkTable
from dist_hdnn.plots.timeline import plot_timeline
from dist_hdnn.topology import CommunicationGraph, build_pattern, torus

CONFIG = Path(__file__).parents[2] / "configs" / "swiss_roll_ring8.yaml"
GATHER, REPLY = Round(0, False, (0.0,)), Round(0, True, (2.0,))


def layers_on(graph: CommunicationGraph, layers: int, neurons: int = 1) -> Work:
    """Layers of one update each: slices, then answers after two products."""
    coupling = Coupling(build_pattern(graph, "neighbours"), np.full(graph.agents, neurons))
    return Work([coupling], [GATHER, REPLY] * layers)


def test_two_agents_by_hand() -> None:
    table = LinkTable.perfect(path(2))
    table.latency[:], table.bandwidth[:] = [0.5, 0.25], 8.0  # from 1 to 0, and from 0 to 1
    found = timeline(layers_on(path(2), 1), table, Agents(rate=8.0))
    # a slice of 4 bytes takes 1/2 s; two products of 2 blocks are 8 operations, 1 s
    np.testing.assert_allclose(found.begin, [[0, 0], [1.0, 0.75], [2.75, 2.75]])
    assert found.seconds == 2.75 and found.critical_link() == (1, 0, pytest.approx(1.0 / 2.75))
    np.testing.assert_allclose(found.computing, [1.0, 1.0])
    assert found.waiting == pytest.approx(1.0 - 1.0 / 2.75)


def test_one_slow_link_of_a_ring_is_critical_and_sets_the_pace() -> None:
    table = LinkTable.perfect(ring(8))
    table.latency[:] = 1e-3
    slow = (table.sender == 3) & (table.receiver == 4)
    table.latency[slow] = 0.1
    found = timeline(layers_on(ring(8), 16), table, Agents(rate=1e12))
    assert found.critical_link() is not None
    sender, receiver, share = found.critical_link() or (0, 0, 0.0)
    assert (sender, receiver) == (3, 4) and share > 0.9
    # to be late again by the slow link, agent 3 must have heard agent 4: a slow and a fast message in turns
    assert found.seconds == pytest.approx(16 * 0.101, rel=0.01)


def test_a_serial_port_sends_one_message_after_the_other() -> None:
    graph, work = star(5), layers_on(star(5), 1)
    table = LinkTable.perfect(graph)
    table.bandwidth[:] = 4.0  # a slice takes a second
    hub = int(graph.degrees().argmax())
    parallel, serial = (timeline(work, table, Agents(1e12, serial=serial)) for serial in (False, True))
    leaves = [agent for agent in range(5) if agent != hub]
    np.testing.assert_allclose(parallel.begin[1], 1.0)
    np.testing.assert_allclose(serial.begin[1][leaves], [1.0, 2.0, 3.0, 4.0])
    assert serial.begin[1][hub] == pytest.approx(1.0)
    # the hub answers when its port is free, at 4
    np.testing.assert_allclose(serial.begin[2][leaves], [5.0, 6.0, 7.0, 8.0])
    assert (serial.bytes == parallel.bytes).all()


@pytest.mark.parametrize(
    ("architecture", "memory", "X"),
    [
        *(
            ("hamiltonian", memory, X)
            for memory in ("store", "recompute", "reversible")
            for X in ("identity", "neighbours")
        ),
        *(("MS1", memory, "identity") for memory in ("store", "recompute", "reversible")),
        *((name, memory, "identity") for name in ("H1", "antisymmetric") for memory in ("store", "recompute")),
    ],
)
def test_messages_and_bytes_are_those_of_the_ledger(architecture: str, memory: str, X: str) -> None:
    execution, batch, layers = Execution(memory=memory), 3, 5  # type: ignore[arg-type]
    widths = {agent: 2 + 2 * (agent % 3) for agent in range(6)}
    net = HDNN(ring(6), widths, layers, X=X, architecture=architecture, execution=execution)
    table = LinkTable.perfect(net.graph)
    states = execution.kept(net.architecture, layers, 1, torch.float32)
    output = net(torch.randn(batch, net.neurons, requires_grad=True))
    assert_as_ledger(net, timeline(answer(net.layout, layers), table, batch=batch))
    output.square().sum().backward()
    assert_as_ledger(net, timeline(training_step(net.layout, layers, states), table, batch=batch))


def assert_as_ledger(net: HDNN, predicted: Timeline) -> None:
    counted = net.ownership.ledger.per_link()
    rows = predicted.table.find(counted.sender, counted.receiver)
    for name in ("messages", "bytes"):
        everything = np.zeros(len(predicted.table), np.int64)
        everything[rows] = getattr(counted, name)
        np.testing.assert_array_equal(getattr(predicted, name), everything)
    traffic = net.traffic()
    assert traffic["messages"] == predicted.messages.sum()
    assert traffic["bytes"] == predicted.bytes.sum()


def test_no_time_falls_when_a_link_gets_slower() -> None:
    generator = np.random.default_rng(0)
    graph, work = torus(3, 4), layers_on(torus(3, 4), 6)
    table = LinkTable.perfect(graph)
    before = np.zeros(12)
    for _ in range(20):
        table.latency[generator.integers(len(table))] += 1e-3
        after = timeline(work, table, Agents(serial=True)).end
        assert (after >= before).all()
        before = after


def test_joules_are_bits_messages_and_computing_times_their_powers() -> None:
    table = LinkTable.perfect(path(2))
    found = timeline(
        layers_on(path(2), 1), table, Agents(8.0, joules_per_bit=1.0, joules_per_message=1000.0, watts=1e6)
    )
    assert found.joules == pytest.approx(4 * 32 + 4 * 1000 + 2e6)


def test_rounded_values_travel_in_fewer_bytes_than_the_ledger_counts() -> None:
    table = LinkTable.perfect(path(2))
    table.bits[:] = 4
    found = timeline(layers_on(path(2), 1, neurons=8), table, Agents(header=20), batch=3)
    assert (found.bytes == 2 * 3 * 32).all()
    assert (found.wire_bytes == 2 * (20 + 3 * (4 + 4))).all()


def test_inspect_prints_times_where_links_have_some() -> None:
    rule = "--links.rules=[{between: [3, 4], one_way: true, latency: 1 s}]"
    info = inspect(read_config(CONFIG, ["--links.latency=5 ms", rule]))
    times = info["timing"]["answer"]
    assert times["critical_link"].startswith("3 -> 4 (") and times["milliseconds"] > 31_000
    assert times["bytes"] == info["communication"]["bytes_per_prediction"]
    assert "timing" not in inspect(read_config(CONFIG, ["--links.loss=0.1"]))


def test_the_picture_of_a_timeline_is_drawn(tmp_path: Path) -> None:
    table = LinkTable.perfect(ring(8))
    table.bandwidth[:] = 100.0
    file = plot_timeline(timeline(layers_on(ring(8), 4), table), ring(8).names, tmp_path / "timeline.png")
    assert file.stat().st_size > 5000


def test_a_message_past_the_links_is_refused() -> None:
    coupling = Coupling(build_pattern(path(3), {"kind": "hops", "hops": 2}), np.ones(3, np.int64))
    with pytest.raises(ValueError, match="between agents 2 and 0, which are not linked"):
        timeline(Work([coupling], [GATHER]), LinkTable.perfect(path(3)))


def test_a_hundred_thousand_agents_take_a_second() -> None:
    graph = torus(250, 400)
    work, table = layers_on(graph, 32), LinkTable.perfect(graph)
    table.latency[:] = 1e-3
    began = time.process_time()
    assert timeline(work, table).seconds > 0.064
    assert time.process_time() - began < 3.0  # 0.5 s on an idle core
