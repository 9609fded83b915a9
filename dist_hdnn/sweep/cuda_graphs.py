"""Sweeps recorded once and replayed: on a GPU both sweeps of a training step are then one launch each.

A sweep over leased memory is a fixed list of kernels on fixed memory, so a `CUDAGraph` can hold it. The input, the
cotangent and the weights are copied to where the recorded kernels read them, and what they leave is handed out as
copies, because autograd takes gradients over. The first step over a batch of some shape runs kernel by kernel, which
allocates all that the sweeps allocate lazily; the second one is recorded.
For one worker alone: messages are no kernels.
Source: the CUDA graphs of PyTorch, docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
Shapes: y, dy (batch, neurons).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from dist_hdnn.sweep.tape import Tape
from dist_hdnn.sweep.weights import Weights, flatten
from dist_hdnn.transport import Ledger, Rounds

Gradients = list[Tensor | None]
T = TypeVar("T")


class Recorder(Protocol):
    """A recorder of the kernels that a piece of work launches."""

    def warm_up(self, work: Callable[[], object]) -> None:
        """Do the work on the stream that will record it."""

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Return the result of the work, and a function that does the work again into the same tensors."""


class CudaRecorder:
    """By a `CUDAGraph`, captured on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def warm_up(self, work: Callable[[], object]) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            work()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: a checkpoint that another thread copies to the host meanwhile does no harm
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            result = work()

        def replay() -> None:
            with torch.cuda.device(self.device):
                graph.replay()

        return result, replay


RECORDERS: dict[str, Callable[[torch.device], Recorder]] = {"cuda": CudaRecorder}
"""By type of device; sweeps on others are not recorded."""


class _Recording(NamedTuple):
    """Both sweeps: where they read y, dy and weights, what they leave, how to do them again, and what they send."""

    y: Tensor
    dy: Tensor
    weights: list[Tensor]
    output: Tensor
    dy0: Tensor
    gradients: Gradients
    forward: Callable[[], None]
    backward: Callable[[], None]
    forward_rounds: Rounds
    backward_rounds: Rounds


class Captured:
    """A tape whose sweeps are replayed, kernel by kernel while states are watched.

    make: makes the tape. sweeps: the forward and the backward sweep over a tape, see `sweep.run` and `sweep.run_back`.
    ledger: where to book what a replayed sweep sends.
    """

    keeps = True
    repeatable = False  # a recorded backward starts from where the forward sweep ends

    def __init__(self, make: Callable[[], Tape], sweeps: tuple[Any, Any], ledger: Ledger, recorder: Recorder) -> None:
        self.tape, self.ledger, self.recorder = make(), ledger, recorder
        self.key: Hashable = None
        self.ticket = 0
        self._make, (self._run, self._run_back) = make, sweeps
        self._recording: _Recording | None = None
        self._ran = self._refused = False

    def run(self, y: Tensor, weights: Weights, see: Any) -> Tensor:
        """Run or replay the forward sweep."""
        if see is not None or not self._ran or self._refused:
            self._ran, self._recording = True, None
            return self._run(self.tape, y, weights, see)  # type: ignore[no-any-return]
        if self._recording is None:
            try:
                self._recording = self._record(y, weights)
            except RuntimeError as error:
                self._refuse(error)
                return self._run(self.tape, y, weights)  # type: ignore[no-any-return]
        recording = self._recording
        recording.y.copy_(y)
        for recorded, current in zip(recording.weights, flatten(weights), strict=True):
            _once(recorded).copy_(_once(current))
        recording.forward()
        self.ledger.book_all(recording.forward_rounds)
        return recording.output.clone()

    def run_back(self, y: Tensor, dy: Tensor, weights: Weights) -> tuple[Tensor, Gradients]:
        """Run or replay the backward sweep."""
        recording = self._recording
        if recording is None:
            return self._run_back(self.tape, y, dy, weights)  # type: ignore[no-any-return]
        recording.dy.copy_(dy)
        recording.backward()
        self.ledger.book_all(recording.backward_rounds)
        return recording.dy0.clone(), [None if each is None else each.clone() for each in recording.gradients]

    def settle(self) -> None:
        """Report on a backward sweep that is over."""
        self.tape.settle()

    def release(self) -> None:
        """Let go of the weights of a sweep that is over."""
        self.tape.release()

    def known(self) -> Iterator[tuple[int, Sequence[Tensor]]]:
        """Yield the states that are kept."""
        return self.tape.known()

    def _record(self, y: Tensor, current: Weights) -> _Recording:
        """Record both sweeps, one after the other: the second starts from the memory that the first leaves."""
        tape, recorder, ledger = self.tape, self.recorder, self.ledger
        y, dy = y.detach().clone(), torch.zeros_like(y)
        weights = {
            name: [_once(tensor.detach()).clone().expand_as(tensor) for tensor in tensors]
            for name, tensors in current.items()
        }

        def step() -> None:
            self._run(tape, y, weights)
            self._run_back(tape, y, dy, weights)

        with ledger.aside():
            recorder.warm_up(step)
        with ledger.aside() as forward_rounds:
            output, forward = recorder.record(lambda: self._run(tape, y, weights))
        with ledger.aside() as backward_rounds:
            (dy0, gradients), backward = recorder.record(lambda: self._run_back(tape, y, dy, weights))
        flat = flatten(weights)
        return _Recording(
            y, dy, flat, output, dy0, gradients, forward, backward, dict(forward_rounds), dict(backward_rounds)
        )

    def _refuse(self, error: RuntimeError) -> None:
        """Continue without a recording, in new memory: half a recording may have left anything in the old one."""
        self._refused, self.tape = True, self._make()
        warnings.warn(
            f"cuda_graphs: expected sweeps that can be captured, got {type(error).__name__}: {error}. They run kernel "
            "by kernel; leave cuda_graphs out to do so from the start.",
            UserWarning,
            stacklevel=2,
        )


def _once(weights: Tensor) -> Tensor:
    """Return weights (layers, entries), or (1, entries) of those that all layers share in memory."""
    return weights if weights.stride(0) else weights[:1]
