"""The threads transport: it does what every transport must do, and ends all workers when one fails."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transport.cases import CASES, Exchange, shapes

from dist_hdnn.transport import (
    AbortError,
    LocalTransport,
    PeerLostError,
    TransportError,
    TransportTimeoutError,
    run_threads,
)


@pytest.mark.parametrize("workers", [2, 3, 5, 8])
@pytest.mark.parametrize("case", CASES)
def test_every_case_holds_between_threads(case: str, workers: int) -> None:
    assert run_threads(workers, CASES[case], timeout=20) == [None] * workers, "all workers reach the end of the case"


@pytest.mark.parametrize("case", sorted(set(CASES) - {"disagreement_is_noticed", "wrong_buffers_leave_nothing_behind"}))
def test_every_case_holds_for_one_worker(case: str) -> None:
    CASES[case](LocalTransport())
    assert run_threads(1, CASES[case]) == [None]


def test_results_come_back_by_rank() -> None:
    assert run_threads(4, lambda transport: transport.rank**2) == [0, 1, 4, 9]


def test_thousands_of_rounds_lose_and_mix_nothing() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # provoke other interleavings

    def work(transport: Any) -> None:
        lengths = shapes(transport.size)
        exchanges = [Exchange(transport, lengths[name], torch.int64) for name in ("ring", "complete")]
        for turn in range(1000):
            first, second = exchanges if turn % 3 else exchanges[::-1]
            first.start()
            second.start()
            first.wait()
            second.wait()

    try:
        assert run_threads(4, work, timeout=30) == [None] * 4, "every wait has compared what came with what was sent"
    finally:
        sys.setswitchinterval(interval)


def test_a_message_moves_when_both_ends_have_started_and_not_before() -> None:
    """As in MPI without buffers: a sender's wait does not end before the receiver has started."""
    times: dict[str, float] = {}

    def work(transport: Any) -> None:
        exchange = Exchange(transport, {(0, 1): 3}, torch.float32)
        if transport.rank == 1:
            time.sleep(0.1)
            times["receiver starts"] = time.monotonic()
        exchange.start()
        exchange.wait()
        if transport.rank == 0:
            times["sender is done"] = time.monotonic()

    run_threads(2, work)
    assert times["sender is done"] > times["receiver starts"]


def ring_rounds(rounds: int, at_third: Callable[[Any], None] | None = None) -> Callable[[Any], None]:
    """Worker 1 does something else at the third round."""

    def work(transport: Any) -> None:
        exchange = Exchange(transport, shapes(transport.size)["ring"], torch.float32, "layer exchange K gather")
        for turn in range(rounds):
            transport.context = f"layer {turn}, forward"
            if turn == 2 and transport.rank == 1 and at_third is not None:
                at_third(transport)
                return
            exchange.start()
            exchange.wait()

    return work


def others_of(work: Callable[[Any], None], errors: dict[int, BaseException]) -> Callable[[Any], None]:
    """Keep what every worker raises."""

    def recorded(transport: Any) -> None:
        try:
            work(transport)
        except BaseException as error:
            errors[transport.rank] = error
            raise

    return recorded


def test_a_worker_that_raises_ends_the_others_and_its_error_is_the_one_that_is_raised() -> None:
    def fails(transport: Any) -> None:
        raise KeyError("made to fail")

    errors: dict[int, BaseException] = {}
    began = time.monotonic()
    with pytest.raises(KeyError, match="made to fail") as raised:
        run_threads(4, others_of(ring_rounds(100, fails), errors), timeout=20)
    assert time.monotonic() - began < 5
    assert raised.value.worker == 1  # type: ignore[attr-defined]
    assert raised.value.__notes__ == ["worker 1 of 4 failed first"]
    for rank in (0, 2, 3):
        error = errors[rank]
        assert isinstance(error, PeerLostError)
        assert (error.worker, error.peer, error.label) == (rank, 1, "layer exchange K gather")
        assert str(error).startswith(f"worker {rank} lost worker 1 in layer exchange K gather (layer ")
        assert "KeyError: 'made to fail'" in str(error)


def test_a_worker_that_returns_early_is_named_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(PeerLostError, match=r"lost worker 1 in layer exchange K gather \(layer 2, forward\): it ret"):
        run_threads(3, ring_rounds(100, lambda transport: None), timeout=20)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("code, expected", [(3, 3), (0, 5), (None, 5), ("some text", 5)])
def test_a_worker_that_calls_exit_fails_the_run(code: Any, expected: int) -> None:
    with pytest.raises(PeerLostError, match="worker 1 called sys.exit") as raised:
        run_threads(3, ring_rounds(100, lambda transport: sys.exit(code)), timeout=20)
    assert raised.value.exit_code == expected


def test_a_worker_that_hangs_is_named_with_the_label_and_the_time() -> None:
    release = threading.Event()
    errors: dict[int, BaseException] = {}
    began = time.monotonic()
    try:
        with pytest.raises(TransportTimeoutError) as raised:
            work = ring_rounds(100, lambda transport: bool(release.wait(30)) and None)
            run_threads(3, others_of(work, errors), timeout=0.5)
    finally:
        release.set()
    assert time.monotonic() - began < 5
    assert raised.match(
        r"worker [02] waited 0\.5 s for worker 1 in layer exchange K gather \(layer 2, forward\); check"
    )
    assert (raised.value.peer, raised.value.label, raised.value.exit_code) == (1, "layer exchange K gather", 5)
    assert "worker 1 had not ended 0 s later" in raised.value.__notes__[1]


def test_a_worker_that_goes_on_alone_for_too_long_is_taken_to_hang() -> None:
    release = threading.Event()

    def work(transport: Any) -> None:
        if transport.rank == 2:
            release.wait(30)

    try:
        with pytest.raises(TransportTimeoutError, match="worker 2 had not ended 0.3 s after the first worker returned"):
            run_threads(3, work, timeout=0.3)
    finally:
        release.set()


def test_a_wait_may_have_its_own_timeout() -> None:
    def work(transport: Any) -> None:
        exchange = Exchange(transport, {(0, 1): 3}, torch.float32, "a slow gather")
        if transport.rank == 1:
            exchange.channel.start()
            exchange.channel.wait(0.1)
        else:
            time.sleep(0.5)

    with pytest.raises(TransportTimeoutError, match=r"worker 1 waited 0\.1 s for worker 0 in a slow gather; check"):
        run_threads(2, work, timeout=30)


def test_a_collective_that_a_worker_does_not_call_names_that_worker() -> None:
    def work(transport: Any) -> None:
        if transport.rank == 2:
            time.sleep(1.5)
        else:
            transport.all_reduce(torch.zeros(3))

    with pytest.raises(
        TransportTimeoutError, match=r"worker 0 waited 0\.4 s for worker 2 in all_reduce sum of 3 float32"
    ):
        run_threads(4, work, timeout=0.4)


def test_workers_with_different_message_lengths_are_told_so() -> None:
    def work(transport: Any) -> None:
        length = 4 if transport.rank == 0 else 5
        channel = transport.channel([], [(0, torch.zeros(length))], "x") if transport.rank else None
        channel = channel or transport.channel([(1, torch.zeros(length))], [], "x")
        channel.start()
        channel.wait()

    with pytest.raises(TransportError, match="worker 0 sends 16 bytes in x, but worker 1 expects 20 in x"):
        run_threads(2, work)


def test_abort_ends_all_with_its_code() -> None:
    with pytest.raises(AbortError, match="stop now") as raised:
        run_threads(3, ring_rounds(100, lambda transport: transport.abort(7, "stop now")), timeout=20)
    assert raised.value.exit_code == 7
    with pytest.raises(AbortError, match="stop now") as raised:
        LocalTransport().abort(75, "stop now")
    assert raised.value.exit_code == 75


def test_no_thread_is_left_after_a_failure() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        run_threads(6, lambda transport: transport.barrier() or 1 / (transport.rank - 3), timeout=20)
    assert threading.active_count() <= before


def test_workers_that_unwind_slowly_are_waited_for() -> None:
    """One that still did when Python ended would abort the process."""

    class Slow:
        def __del__(self) -> None:
            time.sleep(0.2)

    def part(transport: Any) -> None:
        kept.append(threading.current_thread())
        local = threading.local()
        local.slow = Slow()  # ends with the thread, after its worker
        locals_of.append(local)

    kept: list[threading.Thread] = []
    locals_of: list[threading.local] = []
    run_threads(2, part, timeout=20)
    assert not any(thread.is_alive() for thread in kept)
