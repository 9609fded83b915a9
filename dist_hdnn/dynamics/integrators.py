"""Integrators: the order and the shares of the step in which the parts of the state are advanced.

A layer is a list of updates  part := part + c h force(part); forward runs it, backward and the inverse run it reversed.
Integrators of two parts compose such shears, so with a Hamiltonian field every one of them is symplectic, and explicit.

    semi_implicit    p, q                        order 1   symplectic Euler; arXiv:2105.13205
    stormer_verlet   p/2, q, p/2                 order 2   Hairer, Lubich, Wanner, Geometric Num. Integration, I.1
    yoshida4         three stormer_verlet steps  order 4   Yoshida, Phys. Lett. A 150, 1990; kicks that meet are merged
    forward_euler    y                           order 1
    layer_map        y := force(y), without h    the layer of a plain feed-forward network; no approximation of an ODE
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Integrator:
    """One step as (part, coefficient of h) in order. `order`: power of h of the error over a fixed time.

    replaces: the part becomes the force instead of having h times the force added.
    """

    name: str
    order: int
    parts: int
    steps: tuple[tuple[int, float], ...]
    replaces: bool = False


_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
_INNER = 1.0 - 2.0 * _OUTER

INTEGRATORS = {
    integrator.name: integrator
    for integrator in (
        Integrator("semi_implicit", 1, 2, ((0, 1.0), (1, 1.0))),
        Integrator("stormer_verlet", 2, 2, ((0, 0.5), (1, 1.0), (0, 0.5))),
        Integrator(
            "yoshida4",
            4,
            2,
            (
                (0, 0.5 * _OUTER),
                (1, _OUTER),
                (0, 0.5 * (_OUTER + _INNER)),
                (1, _INNER),
                (0, 0.5 * (_INNER + _OUTER)),
                (1, _OUTER),
                (0, 0.5 * _OUTER),
            ),
        ),
        Integrator("forward_euler", 1, 1, ((0, 1.0),)),
        Integrator("layer_map", 0, 1, ((0, 1.0),), replaces=True),
    )
}
TWO_PARTS = ("semi_implicit", "stormer_verlet", "yoshida4")
