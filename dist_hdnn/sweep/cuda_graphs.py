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
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from dist_hdnn.sweep.frame import Frame
from dist_hdnn.sweep.tape import Gradients, Trace
from dist_hdnn.sweep.weights import Weights, flatten
from dist_hdnn.transport import Ledger, Rounds

T = TypeVar("T")


class Recorder(Protocol):
    """Records what a piece of work does to tensors; needs a device."""

    def warm_up(self, work: Callable[[], object]) -> None:
        """Do the work where it will be recorded."""

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """What the work returns, in tensors that a call of the second fills, by doing the work (again)."""


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
    """A trace whose sweeps are replayed, see `Trace`; kernel by kernel while states are watched.

    make: makes the trace. ledger: where to book what a replayed sweep sends.
    """

    again = False  # a recorded backward starts from where the forward sweep ends, in memory and in mind

    def __init__(self, make: Callable[[], Trace], frame: Frame, ledger: Ledger, recorder: Recorder) -> None:
        self.trace, self.frame, self.ledger, self.recorder = make(), frame, ledger, recorder
        self.key, self.ticket = captured(self.trace.key), 0
        self._make = make
        self._recording: _Recording | None = None
        self._ran = self._refused = False

    def run(self, y: Tensor, weights: Weights) -> Tensor:
        if self.frame.watchers or not self._ran or self._refused:
            self._ran, self._recording = True, None
            return self.trace.run(y, weights)
        if self._recording is None:
            try:
                self._recording = self._record(y, weights)
            except RuntimeError as error:
                self._refuse(error)
                return self.trace.run(y, weights)
        recording = self._recording
        recording.y.copy_(y)
        for ours, given in zip(recording.weights, flatten(weights), strict=True):
            _once(ours).copy_(_once(given))
        recording.forward()
        self.ledger.book_all(recording.forward_rounds)
        return recording.output.clone()

    def run_back(self, y: Tensor, dy: Tensor, weights: Weights) -> tuple[Tensor, Gradients]:
        recording = self._recording
        if recording is None:
            return self.trace.run_back(y, dy, weights)
        recording.dy.copy_(dy)
        recording.backward()
        self.ledger.book_all(recording.backward_rounds)
        return recording.dy0.clone(), [None if each is None else each.clone() for each in recording.gradients]

    def settle(self) -> None:
        self.trace.settle()

    def known(self) -> Iterator[tuple[int, Sequence[Tensor]]]:
        return self.trace.known()

    def _record(self, y: Tensor, given: Weights) -> _Recording:
        """Both sweeps, one after the other, so that the second is that of the state in which the first leaves all."""
        trace, recorder, ledger = self.trace, self.recorder, self.ledger
        y, dy = y.detach().clone(), torch.zeros_like(y)
        weights = {
            name: [_once(tensor.detach()).clone().expand_as(tensor) for tensor in tensors]
            for name, tensors in given.items()
        }

        def step() -> None:
            trace.run(y, weights)
            trace.run_back(y, dy, weights)

        with ledger.aside():
            recorder.warm_up(step)
        with ledger.aside() as forward_rounds:
            output, forward = recorder.record(lambda: trace.run(y, weights))
        with ledger.aside() as backward_rounds:
            (dy0, gradients), backward = recorder.record(lambda: trace.run_back(y, dy, weights))
        flat = flatten(weights)
        return _Recording(
            y, dy, flat, output, dy0, gradients, forward, backward, dict(forward_rounds), dict(backward_rounds)
        )

    def _refuse(self, error: RuntimeError) -> None:
        """Go on without, in new memory: half a recording may have left anything in the old one."""
        self._refused, self.trace = True, self._make()
        warnings.warn(
            f"cuda_graphs: expected sweeps that can be captured, got {type(error).__name__}: {error}. They run kernel "
            "by kernel; leave cuda_graphs out to do so from the start.",
            UserWarning,
            stacklevel=2,
        )


def _once(weights: Tensor) -> Tensor:
    """(layers, entries), or (1, entries) of weights that all layers share in memory."""
    return weights if weights.stride(0) else weights[:1]


def captured(key: object) -> tuple[str, object]:
    """Key of a captured trace, given that of the trace."""
    return "captured", key
