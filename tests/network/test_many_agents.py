"""Set-up, a training step, the ledger and exports do the same number of Python instructions however many agents."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch

import dist_hdnn
from dist_hdnn.network import keyed_random
from dist_hdnn.topology import CommunicationGraph, torus
from dist_hdnn.transport import Transport, run_threads

FEW, MANY = (20, 20), (60, 60)
LAYERS, BATCH = 2, 2


def instructions(call: Callable[[], Any]) -> int:
    """Python instructions that a call executes in this thread."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def train_a_step(graph: CommunicationGraph, workers: Transport | None, partition: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = dist_hdnn.HDNN(graph, 2, LAYERS, workers=workers, partition=partition)
    adam = torch.optim.Adam(net.parameters(), fused=True)
    net(torch.ones(BATCH, net.neurons)).square().mean().backward()
    adam.step()
    net.traffic()
    net.link_traffic()
    net.load_state_dict(net.state_dict())


@pytest.mark.parametrize(("workers", "partition"), [(1, "contiguous"), (2, "contiguous"), (2, "greedy")])
def test_no_python_instruction_is_spent_on_a_single_agent(
    workers: int, partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed_random, "CHUNK", 2**30)  # pieces of 2^14 random numbers are a loop that is meant
    counts = []
    for sides in (FEW, FEW, MANY):  # the first call imports and fills caches
        graph = torus(*sides)
        if workers == 1:
            counts.append([instructions(lambda graph=graph: train_a_step(graph, None, partition))])
            continue

        def work(transport: Transport, graph: CommunicationGraph = graph) -> int:
            return instructions(lambda: train_a_step(graph, transport, partition))

        counts.append(run_threads(workers, work))
    agents = MANY[0] * MANY[1] - FEW[0] * FEW[1]
    for few, many in zip(counts[1], counts[2], strict=True):
        assert many - few < 0.5 * agents, f"{(many - few) / agents:.1f} instructions for each more agent"


def test_a_loop_over_agents_would_be_seen() -> None:
    """What the test above would miss, it would miss here."""
    few, many = (instructions(lambda n=n: [k + 1 for k in range(n)]) for n in (400, 3600))
    assert many - few > 2 * (3600 - 400)
