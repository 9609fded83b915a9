"""Buffers and calls that cannot work are refused before anything is posted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dist_hdnn.transport import LocalTransport, run_threads
from dist_hdnn.transport.messages import Buffers, check_buffers, check_runs

GOOD = torch.zeros(4)
SHARED = torch.zeros(10)


@pytest.mark.parametrize(
    "sends, receives, message",
    [
        ([(1, torch.zeros(4, 6)[:, ::2])], [], r"send to worker 1: expected contiguous memory, got shape \(4, 3\)"),
        ([], [(1, torch.zeros(3, 4).T)], "receive from worker 1: expected contiguous memory"),
        ([(1, torch.zeros(3, requires_grad=True))], [], r"send to worker 1: the buffer requires grad; give its detach"),
        ([(0, GOOD)], [], "worker 0: that is itself"),
        ([(3, GOOD)], [], "send to worker 3: expected a worker from 0 to 2; check the partition"),
        ([(-1, GOOD)], [], "expected a worker from 0 to 2"),
        ([(1.0, GOOD)], [], "expected a worker from 0 to 2"),
        ([(1, GOOD), (1, torch.zeros(2))], [], "send to worker 1 twice in one exchange; put both into one buffer"),
        ([], [(2, GOOD), (2, torch.zeros(2))], "receive from worker 2 twice"),
        ([(1, [1.0, 2.0])], [], "expected a tensor, got list"),
        ([(1, torch.zeros(3).to_sparse())], [], "expected a plain tensor on cpu or cuda"),
        ([(1, torch.zeros(3, device="meta"))], [], "expected a plain tensor on cpu or cuda"),
        ([(1, torch.zeros(3, dtype=torch.complex64).conj())], [], "lazy conjugate"),
        ([(1, GOOD)], [(1, GOOD)], "worker 1 that overlaps the one for worker 1, and one of them is received"),
        ([], [(1, SHARED[:6]), (2, SHARED[5:])], "a buffer for worker 2 that overlaps the one for worker 1"),
        (
            [(1, SHARED[:9]), (2, SHARED[:2])],
            [(2, SHARED[7:])],
            "buffer for worker 2 that overlaps the one for worker 1",
        ),
    ],
)
def test_a_buffer_that_cannot_be_exchanged_is_refused(sends: Any, receives: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        check_buffers(0, 3, sends, receives, "gather")
    assert str(raised.value).startswith("gather: worker 0") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "sends, receives",
    [
        ([(1, GOOD), (2, GOOD)], []),
        ([(1, SHARED[:6]), (2, SHARED[3:5])], [(1, SHARED[6:8]), (2, SHARED[8:])]),
        ([(1, SHARED[:0])], [(2, torch.zeros(0)), (1, SHARED)]),
    ],
)
def test_a_slice_may_go_to_several_workers_and_parts_of_one_buffer_may_be_used(
    sends: Buffers, receives: Buffers
) -> None:
    check_buffers(0, 3, sends, receives, "gather")


def test_one_worker_alone_has_no_peers() -> None:
    with pytest.raises(ValueError, match="cannot send to worker 1: expected a worker from 0 to 0"):
        LocalTransport().channel([(1, GOOD)], [], "gather")
    LocalTransport().channel([], [], "gather").start()


def test_start_and_wait_take_turns_and_close_is_last() -> None:
    channel = LocalTransport().channel([], [], "gather")
    with pytest.raises(RuntimeError, match="gather: wait of a channel that is idle"):
        channel.wait()
    channel.start()
    with pytest.raises(RuntimeError, match="start of a channel that is between start and wait"):
        channel.start()
    with pytest.raises(RuntimeError, match="close of a channel that is between start and wait"):
        channel.close()
    channel.wait()
    channel.close()
    channel.close()
    with pytest.raises(RuntimeError, match="start of a channel that is closed"):
        channel.start()


def test_a_closed_transport_makes_no_channels() -> None:
    transport = LocalTransport()
    transport.close()
    transport.close()
    with pytest.raises(RuntimeError, match="the transport of worker 0 is closed"):
        transport.channel([], [], "gather")


@pytest.mark.parametrize(
    "tensor, op, message",
    [
        (torch.zeros(2), "mean", "expected op sum, max, min, got 'mean'"),
        (torch.zeros(2, requires_grad=True), "sum", "requires grad"),
        (torch.zeros(2, dtype=torch.bool), "max", "no max of torch.bool"),
        (torch.zeros(2, dtype=torch.complex64), "min", "no min of torch.complex64"),
    ],
)
def test_a_tensor_that_cannot_be_reduced_is_refused(tensor: Tensor, op: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalTransport().all_reduce(tensor, op)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    with pytest.raises(ValueError, match="expected a timeout in seconds"):
        run_threads(2, lambda transport: None, timeout)


def test_runs_have_the_bytes_of_their_buffer() -> None:
    rows = torch.zeros(6, 4)
    sends = [(1, torch.zeros(3, 4)), (2, GOOD)]
    check_runs(sends, {1: [rows[:1], rows[2:4]]}, "gather")
    with pytest.raises(ValueError, match="gather: expected runs of 48 bytes for worker 1, got 32; cut its buffer"):
        check_runs(sends, {1: [rows[:2]]}, "gather")
    with pytest.raises(ValueError, match="gather: expected runs of 0 bytes for worker 3, got 16; cut its buffer"):
        check_runs(sends, {3: [rows[:1]]}, "gather")
    with pytest.raises(ValueError, match="a run for worker 1: expected contiguous memory"):
        check_runs(sends, {1: [rows[:, :2]]}, "gather")
