"""The ledger's counts equal those made by hand, and those of the transport."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from networks import quiet_graph
from numpy.typing import NDArray
from scipy.sparse import csr_array
from transport.cases import Exchange, shapes

from dist_hdnn.transport import Ledger, run_threads
from dist_hdnn.transport.traffic import PHASES

PATH = csr_array(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool))  # 0 - 1 - 2


def matrix(ledger: Ledger, workers: int) -> NDArray[np.int64]:
    """(phases, workers, workers, 2): messages and bytes from row to column."""
    result = np.zeros((len(PHASES), workers, workers, 2), np.int64)
    for index, phase in enumerate(PHASES):
        traffic = ledger.per_link(phase)
        result[index, traffic.sender, traffic.receiver] = np.stack([traffic.messages, traffic.bytes], axis=1)
    return result


def test_counts_equal_those_made_by_hand() -> None:
    ledger = Ledger()
    gather = ledger.register([0, 1, 1, 2], [1, 0, 2, 1], [2, 3, 3, 4])
    scatter = ledger.register([1, 0], [0, 1], [2, 3])
    ledger.book(gather, "forward", 40)
    ledger.book(gather, "forward", 40, rounds=3)
    ledger.book(gather, "forward", 8)
    ledger.book(scatter, "backward", 40)
    totals = ledger.totals()
    assert totals["forward"] == {
        "rounds": 5,
        "messages": 20,
        "bytes": 12 * (4 * 5 * 8 + 2 * 4),
        "collective_messages": 0,
    }
    assert totals["backward"] == {"rounds": 1, "messages": 2, "bytes": 5 * 5 * 8, "collective_messages": 0}
    assert totals["all"]["messages"] == 22 and totals["all"]["bytes"] == 12 * 168 + 200
    assert set(totals) == {*PHASES, "all"} and totals["metrics"]["messages"] == 0
    links = ledger.per_link()
    assert links.sender.tolist() == [0, 1, 1, 2] and links.receiver.tolist() == [1, 0, 2, 1]
    assert links.messages.tolist() == [6, 6, 5, 5]
    assert links.bytes.tolist() == [2 * 168 + 3 * 40, 3 * 168 + 2 * 40, 3 * 168, 4 * 168]
    assert ledger.per_link("backward").bytes.tolist() == [120, 80]
    assert ledger.per_link("readout").messages.tolist() == []


def test_reset_forgets_the_counts_and_keeps_the_exchanges() -> None:
    ledger = Ledger()
    plan = ledger.register([0], [1], [2])
    ledger.book(plan, "forward", 8)
    ledger.reset()
    assert ledger.totals()["all"] == {"rounds": 0, "messages": 0, "bytes": 0, "collective_messages": 0}
    ledger.book(plan, "forward", 8)
    assert ledger.totals()["all"]["bytes"] == 16


def test_an_empty_buffer_is_no_message() -> None:
    ledger = Ledger()
    ledger.book(ledger.register([0, 1], [1, 0], [0, 2]), "forward", 8)
    assert ledger.totals()["all"]["messages"] == 1


def test_messages_past_the_links_are_counted() -> None:
    ledger = Ledger()
    ledger.book(ledger.register([0, 1, 2], [1, 2, 0], [1, 1, 1]), "forward", 32, rounds=10)
    assert ledger.non_neighbour_messages(PATH) == 10  # 2 to 0
    assert ledger.non_neighbour_messages(PATH, owners=[0, 2, 1]) == 10  # now 0 and 1 are strangers
    ledger.reset()
    ledger.book(ledger.register_collective(0, 3, 1), "readout", 8)
    assert ledger.non_neighbour_messages(PATH) == 0
    assert ledger.totals()["readout"]["collective_messages"] == 2


def test_a_slice_between_agents_that_are_not_linked_counts_though_their_workers_are_neighbours() -> None:
    """Agents 0, 1 on worker 0 and 2 on worker 1: the workers are linked through 1 - 2, agents 0 and 2 are not."""
    ledger, owners = Ledger(), [0, 0, 1]
    plan = ledger.register([0], [1], [4], agents=([0, 1], [2, 2], [2, 2]))
    ledger.book(plan, "forward", 24)
    assert ledger.non_neighbour_messages(PATH, owners) == 1
    links = ledger.per_link(agents=True)
    assert links.sender.tolist() == [0, 1] and links.bytes.tolist() == [48, 48]
    assert ledger.totals()["all"] == {"rounds": 1, "messages": 1, "bytes": 96, "collective_messages": 0}


def test_workers_join_their_counts_by_adding_matrices() -> None:
    whole, parts = Ledger(), [Ledger() for _ in range(3)]
    sender, receiver, neurons = np.array([0, 1, 1, 2]), np.array([1, 0, 2, 1]), np.array([5, 6, 7, 8])
    whole.book(whole.register(sender, receiver, neurons), "backward", 12, rounds=2)
    for rank, part in enumerate(parts):
        own = sender == rank
        part.book(part.register(sender[own], receiver[own], neurons[own]), "backward", 12, rounds=2)
    added = sum(matrix(part, 3) for part in parts)
    assert np.array_equal(added, matrix(whole, 3))
    assert added[PHASES.index("backward"), 1, 2].tolist() == [2, 7 * 3 * 4 * 2]


def test_the_ledger_and_the_transport_count_the_same() -> None:
    def work(transport: Any) -> None:
        ledger = Ledger()
        for lengths in shapes(transport.size).values():
            own = [(a, b, n) for (a, b), n in lengths.items() if a == transport.rank]
            plan = ledger.register(*(np.array(own, dtype=np.int64).reshape(-1, 3).T))
            exchange = Exchange(transport, lengths, torch.float64)
            for _ in range(3):
                exchange.start()
                exchange.wait()
            ledger.book(plan, "forward", 8, rounds=3)
        assert np.array_equal(matrix(ledger, transport.size)[0, transport.rank], transport.sent())

    run_threads(4, work)


def test_a_collective_is_booked_as_it_travels() -> None:
    def work(transport: Any) -> None:
        ledger = Ledger()
        plan = ledger.register_collective(transport.rank, transport.size, values=7)
        before = transport.sent()
        transport.all_reduce(torch.zeros(7))
        ledger.book(plan, "readout", 4)
        sent = transport.sent() - before
        counted = matrix(ledger, transport.size)[PHASES.index("readout"), transport.rank]
        assert np.array_equal(counted[:, 0], sent[:, 0])
        assert np.all(counted[:, 1] == 28 * counted[:, 0])  # without headers and padding
        assert np.all(sent[:, 1] == 512 * sent[:, 0])

    run_threads(4, work)


def test_booking_takes_no_python_step_per_message() -> None:
    ledger = Ledger()
    plan = ledger.register(np.zeros(100_000, int), np.ones(100_000, int), np.ones(100_000, int))
    steps = 0

    def count(frame: Any, event: str, argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    sys.settrace(count)
    try:
        ledger.book(plan, "forward", 32)
    finally:
        sys.settrace(None)
    assert steps < 60
    assert ledger.totals()["all"] == {
        "rounds": 1,
        "messages": 100_000,
        "bytes": 3_200_000,
        "collective_messages": 0,
    }


def test_a_real_graph_has_no_message_past_its_links_when_agents_talk_to_neighbours() -> None:
    graph = quiet_graph("hubs")
    sender, receiver = graph.adjacency().nonzero()
    ledger = Ledger()
    ledger.book(ledger.register(sender, receiver, np.full(len(sender), 3)), "forward", 16)
    assert ledger.non_neighbour_messages(graph.adjacency()) == 0
    assert ledger.totals()["all"]["bytes"] == len(sender) * 48


def test_wrong_calls_are_refused() -> None:
    ledger = Ledger()
    with pytest.raises(ValueError, match=r"workers from, to and neurons of one length, got \[2, 1, 1\]"):
        ledger.register([0, 1], [1], [1])
    plan = ledger.register([0], [5], [1])
    with pytest.raises(ValueError, match=f"expected phase {', '.join(PHASES)}, got 'sweep'"):
        ledger.book(plan, "sweep", 8)
    ledger.book(plan, "forward", 8)
    with pytest.raises(ValueError, match="messages of more than the 3 in the graph"):
        ledger.non_neighbour_messages(PATH)
