"""The network at one batch of states: products with the Jacobians of its layers, layer by layer and sample by sample.

    push     tangents     (batch, neurons) before layer `first` -> before layer `last`     M_{last-1} ... M_first
    pull     cotangents   (batch, neurons) before layer `last` -> before layer `first`     the transpose

Collective on several workers, each with the columns it owns. No autograd: weight gradients are not formed.
"""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor

from dist_hdnn.dynamics import step
from dist_hdnn.dynamics.use import NO_GRADIENTS
from dist_hdnn.sweep.sweep import Sweep, run
from dist_hdnn.sweep.weights import Weights


class Linearization:
    """A sweep stored at y (batch, neurons). Close it, or use it in a `with`, to give its memory back to the network.

    layers: number of layers; positions run from 0, before the first layer, to `layers`, after the last.
    Weights are those of the time of making: do not train in between.
    """

    @torch.no_grad()
    def __init__(self, sweep: Sweep, y: Tensor, weights: Weights) -> None:
        self.layers, self._sweep = sweep.layers, sweep
        self._kind = tuple(y.shape), y.dtype, y.device
        self._tape = sweep.lease_kept(y)
        self._open = True
        run(sweep, self._tape, y, weights)

    @torch.no_grad()
    def states(self, layer: int) -> Tensor:
        """Return the state at a position, (batch, neurons)."""
        self._check(layer, layer)
        return self._sweep.unpack(self._tape.buffers.boundaries[layer])

    @torch.no_grad()
    def pull(self, cotangent: Tensor, last: int, first: int) -> Tensor:
        """Apply Jᵀ of the layers between two positions, first <= last: (batch, neurons) at `last` -> at `first`."""
        self._check(first, last, cotangent)
        sweep, tape = self._sweep, self._tape
        nothing = [NO_GRADIENTS] * sweep.parts
        sweep.pack(cotangent, tape.cotangents)
        sweep.where.moment = tape.moment
        for layer in reversed(range(first, last)):
            sweep.where.at("backward", layer, self.layers)
            step.backward(tape.uses(layer), tape.weights.of(layer), nothing)
        sweep.where.leave()
        return sweep.unpack(tape.cotangents)

    @torch.no_grad()
    def push(self, tangent: Tensor, first: int, last: int) -> Tensor:
        """Apply J of the layers between two positions, first <= last: (batch, neurons) at `first` -> at `last`."""
        self._check(first, last, tangent)
        sweep, tape = self._sweep, self._tape
        sweep.pack(tangent, tape.cotangents)
        sweep.where.moment = tape.moment
        for layer in range(first, last):
            sweep.where.at("forward", layer, self.layers)
            step.tangent(tape.uses(layer), tape.weights.of(layer))
        sweep.where.leave()
        return sweep.unpack(tape.cotangents)

    def close(self) -> None:
        """Give the memory back. No query is answered after that."""
        if self._open:
            self._sweep.pool.give_back(self._tape)
            self._open = False

    def __enter__(self) -> Linearization:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, first: int, last: int, vector: Tensor | None = None) -> None:
        if not self._open:
            raise ValueError("linearization: expected to be open, got one that was closed. Make a new one.")
        if not 0 <= first <= last <= self.layers:
            raise ValueError(
                f"linearization: expected positions 0 <= first <= last <= {self.layers}, got {first} and {last}. "
                "Position j is the state before layer j + 1."
            )
        if vector is not None and (tuple(vector.shape), vector.dtype, vector.device) != self._kind:
            shape, dtype, device = self._kind
            raise ValueError(
                f"linearization: expected a vector of shape {shape}, {dtype} on {device}, as its state, got "
                f"{tuple(vector.shape)}, {vector.dtype} on {vector.device}. Give one row per sample."
            )
