"""Queries of a sweep besides its two directions, all without gradients.

    states    y0 -> y0 .. yN             inverse   yN -> y0
    fields    f(y_j), the right-hand side at every state
    apply_J   ± J v                      energy    H(y) of one layer
Shapes: states and vectors (batch, neurons) at the edge, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from dist_hdnn.dynamics import step
from dist_hdnn.sweep.sweep import Sweep, run
from dist_hdnn.sweep.tape import State, Tape
from dist_hdnn.sweep.weights import Weights


@torch.no_grad()
def states(sweep: Sweep, y: Tensor, weights: Weights) -> Tensor:
    """Return every layer's state: (layers + 1, batch, neurons), the first of them y."""
    found = y.new_empty(sweep.layers + 1, *y.shape)

    def see(position: int, parts: State) -> None:
        found[position].copy_(sweep.unpack(parts))

    run(sweep, sweep.lease_plain(y), y, weights, see)
    return found


@torch.no_grad()
def inverse(sweep: Sweep, y: Tensor, weights: Weights) -> Tensor:
    """Return y0 of yN (batch, neurons), by undoing every layer from the last to the first; exact up to rounding."""
    with _held(sweep, y, weights) as tape:
        sweep.pack(y, tape.end(sweep.layers - 1))
        for layer in reversed(range(sweep.layers)):
            sweep.where.at("inverse", layer, sweep.layers)
            step.inverse(tape.uses(layer), tape.weights.of(layer))
        return sweep.unpack(tape.start)


@torch.no_grad()
def fields(sweep: Sweep, at: Sequence[Tensor], weights: Weights) -> list[Tensor]:
    """Return the forces on all parts at y_0 .. y_N, (batch, neurons) each: of the next layer, at y_N of the last."""
    found, forces = [], sweep.spec.architecture.forces
    with _held(sweep, at[0], weights) as tape:
        for layer in range(sweep.layers):
            sweep.where.at("forward", layer, sweep.layers)
            first = {use.part: use for use in reversed(tape.uses(layer))}
            of_layer = tape.weights.of(layer)
            for y in at[layer : layer + (2 if layer + 1 == sweep.layers else 1)]:
                sweep.pack(y, tape.start)
                rates = [step.force(first[part], of_layer) * forces[part].sign for part in range(sweep.parts)]
                found.append(sweep.unpack(rates))
    return found


@torch.no_grad()
def apply_J(sweep: Sweep, v: Tensor, weights: Weights, sign: float, layer: int) -> Tensor:
    """Return sign · J v for states (batch, neurons): J = [[0, -Xᵀ], [X, 0]] with a layer's X, or the J of H1.

    Raises ValueError for an architecture without J.
    """
    architecture = sweep.spec.architecture
    if sweep.parts == 1 and not architecture.interconnection:
        raise ValueError(
            f"apply_J: expected an architecture with an interconnection, got {architecture.name}, which has no J. "
            "Choose one of two parts (p, q), or H1."
        )
    with _held(sweep, v, weights) as tape:
        d = tape.cotangents
        sweep.pack(v, d)
        X = tape.weights.interconnection(layer)
        signs = (sign,) if sweep.parts == 1 else (-sign, sign)
        result = [
            tape.buffers.interconnected(part, layer % len(sweep.spec.graphs), d[force.source], X) * signs[part]
            for part, force in enumerate(architecture.forces)
        ]
    return sweep.unpack(result)


@torch.no_grad()
def energy(sweep: Sweep, y: Tensor, weights: Weights, layer: int) -> Tensor:
    """Return the Hamiltonian of one layer's field at states (batch, neurons): this worker's rows of the sum, (batch,).

    Raises ValueError for an architecture whose field is no gradient.
    """
    total = y.new_zeros(len(y))
    with _held(sweep, y, weights) as tape:
        sweep.pack(y, tape.start)
        of_layer = tape.weights.of(layer)
        for use in {use.part: use for use in tape.uses(layer)}.values():
            use.weights = of_layer[use.part]
            of_term = use.term.energy(use)
            if of_term is None:
                raise ValueError(
                    f"energy: expected an architecture whose field is a gradient times J, got "
                    f"{sweep.spec.architecture.name}. Choose hamiltonian, MS3, H1 or leapfrog."
                )
            total += of_term
    return total


@contextmanager
def _held(sweep: Sweep, y: Tensor, weights: Weights) -> Iterator[Tape]:
    """Lease a tape for a batch like y that holds these weights."""
    tape = sweep.lease_plain(y)
    tape.weights.hold(weights)
    try:
        yield tape
    finally:
        sweep.where.leave()
        sweep.pool.give_back(tape)
