"""Every architecture by name: its equation, its properties, the weights it owns and the forces on its parts.

The state has two halves, p before q in every agent, or one part y, an agent's whole width. The force on each part
is given here, the order of the updates by `integrators`; the two are independent. s is the activation, h the step.

Sources: [G] Galimberti, Furieri, Xu, Ferrari-Trecate, arXiv:2105.13205; [X] Galimberti, Xu, Ferrari-Trecate,
arXiv:2104.13166; [H] Haber, Ruthotto, arXiv:1705.03341; [C] Chang et al., AAAI 2018; [R] Ruseckas, arXiv:1909.03767.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from dist_hdnn.dynamics.integrators import INTEGRATORS, TWO_PARTS, Integrator


@dataclass(frozen=True)
class Force:
    """sign · [interconnection] term(part `source`), with the names of its weights.

    kind: the term, by its name in `terms.TERMS`. factor: in front of Kᵀ (activated_transposed). interconnection: a
    gradient is multiplied by X, Xᵀ or the skew J.
    """

    kind: str
    source: int
    sign: float = 1.0
    K: str = ""
    b: str = ""
    factor: float = 1.0
    interconnection: Literal["", "X", "Xᵀ", "J"] = ""

    def __post_init__(self) -> None:
        assert self.kind == "gradient" or not self.interconnection, "only a gradient has an interconnection"


@dataclass(frozen=True)
class Architecture:
    """A family of layers. `options`: arguments of the network that this architecture reads besides the common ones.

    forces: one for each part. skew: K holds the strictly upper triangle of a skew matrix on its pattern.
    symplectic: M J Mᵀ = J for every layer Jacobian M, with the J of `apply_J`. Two parts always give determinant 1.
    """

    name: str
    equation: str
    source: str
    forces: tuple[Force, ...]
    integrators: tuple[str, ...]
    options: frozenset[str] = frozenset()
    symplectic: bool = False
    skew: bool = False
    integrator: Integrator = INTEGRATORS["semi_implicit"]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the state."""
        return ("p", "q") if len(self.forces) == 2 else ("y",)

    @property
    def order(self) -> int:
        """Order of the integrator, 0 for a plain feed-forward layer."""
        return self.integrator.order

    @property
    def volume_preserving(self) -> bool:
        """Whether every layer Jacobian has determinant 1: the parts advance by shears."""
        return len(self.forces) == 2

    @property
    def invertible(self) -> bool:
        """Whether a layer is inverted exactly: no part is advanced by itself."""
        return len(self.forces) == 2

    @cached_property
    def matrices(self) -> tuple[str, ...]:
        """Names of the matrices on the pattern of K, in the order of the parameters."""
        return tuple(sorted({force.K for force in self.forces if force.K}))

    @cached_property
    def biases(self) -> tuple[str, ...]:
        """Names of the biases, (layers, neurons of a part) each."""
        return tuple(sorted({force.b for force in self.forces if force.b}))

    @cached_property
    def interconnection(self) -> str:
        """Name of the interconnection's weights, on the pattern of X: "X", "J", or "" where it is the identity."""
        return next((force.interconnection.removesuffix("ᵀ") for force in self.forces if force.interconnection), "")

    def with_identity(self) -> Architecture:
        """Return the same with X = 1."""
        return replace(self, forces=tuple(replace(force, interconnection="") for force in self.forces))


HAMILTONIAN = Architecture(
    "hamiltonian",
    "p⁺ = p - h Xᵀ Kqᵀ s(Kq q + bq), q⁺ = q + h X Kpᵀ s(Kp p⁺ + bp)",
    "[G], the semi-implicit H2-DNN",
    (
        Force("gradient", 1, -1.0, "Kq", "bq", interconnection="Xᵀ"),
        Force("gradient", 0, 1.0, "Kp", "bp", interconnection="X"),
    ),
    TWO_PARTS,
    frozenset({"X", "shared_x"}),
    symplectic=True,
)
ANTISYMMETRIC = Architecture(
    "antisymmetric",
    "y⁺ = y + h s((S - Sᵀ - gamma) y + b), S strictly upper triangular",
    "[H], the antisymmetric network with damping gamma; [C]",
    (Force("activated_skew", 0, K="S", b="b"),),
    ("forward_euler",),
    frozenset({"gamma"}),
    skew=True,
)
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        HAMILTONIAN,
        Architecture(
            "H1",
            "y⁺ = y + h J Kᵀ s(K y + b), J skew: J1, J2, trained or given",
            "[G] and [X], the H1-DNN",
            (Force("gradient", 0, 1.0, "K", "b", interconnection="J"),),
            ("forward_euler",),
            frozenset({"X", "J"}),
        ),
        Architecture(
            "MS1",
            "p⁺ = p + h s(K q + bp), q⁺ = q + h s(-Kᵀ p⁺ + bq)",
            "[X], MS1; [C]",
            (
                Force("activated", 1, 1.0, "K", "bp"),
                Force("activated_transposed", 0, 1.0, "K", "bq", factor=-1.0),
            ),
            TWO_PARTS,
        ),
        replace(
            ANTISYMMETRIC,
            name="MS2",
            equation="y⁺ = y + h s((S - Sᵀ) y + b), S strictly upper triangular",
            source="[X], MS2: the antisymmetric network without damping",
            options=frozenset(),
        ),
        replace(
            HAMILTONIAN,
            name="MS3",
            equation="p⁺ = p - h Kqᵀ s(Kq q + bq), q⁺ = q + h Kpᵀ s(Kp p⁺ + bp)",
            source="[X], MS3: the Hamiltonian network with X = 1",
            options=frozenset(),
        ).with_identity(),
        ANTISYMMETRIC,
        Architecture(
            "verlet",
            "p⁺ = p - h s(Kᵀ q + b), q⁺ = q + h s(K p⁺ + b)",
            "[H], the Hamiltonian-inspired network by Verlet steps, with its z = p, y = q and one b for both",
            (
                Force("activated_transposed", 1, -1.0, "K", "b"),
                Force("activated", 0, 1.0, "K", "b"),
            ),
            TWO_PARTS,
        ),
        Architecture(
            "leapfrog",
            "q⁺ = 2 q - q⁻ - h² Kᵀ s(K q + b), carried as p = (q - q⁻) / h: p⁺ = p - h Kᵀ s(K q + b), q⁺ = q + h p⁺",
            "[H], the leapfrog network of second order with symmetric layers",
            (Force("gradient", 1, -1.0, "K", "b"), Force("drift", 0)),
            TWO_PARTS,
            symplectic=True,
        ),
        Architecture(
            "near_identity",
            "y⁺ = φ((1 + h A) y + h b), φ(x) = x + h s(x)",
            "[R], feed-forward network whose activation is near the identity",
            (Force("near_identity", 0, K="A", b="b"),),
            ("forward_euler",),
        ),
        Architecture(
            "resnet",
            "y⁺ = y + h s(A y + b)",
            "He et al., CVPR 2016; for comparison",
            (Force("activated", 0, K="A", b="b"),),
            ("forward_euler",),
        ),
        Architecture(
            "mlp",
            "y⁺ = s(A y + b)",
            "plain feed-forward network; for comparison",
            (Force("activated", 0, K="A", b="b"),),
            ("layer_map",),
        ),
    )
}


def architecture(name: str, integrator: str | None = None) -> Architecture:
    """Return the architecture of that name with one of its integrators, by default the published one.

    Raises ValueError for an unknown name, or an integrator that does not suit the architecture.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"network.architecture: {_expected(ARCHITECTURES, name)}")
    found = ARCHITECTURES[name]
    if integrator is None:
        integrator = found.integrators[0]
    if integrator not in INTEGRATORS:
        raise ValueError(f"network.integrator: {_expected(INTEGRATORS, integrator)}")
    if integrator not in found.integrators:
        raise ValueError(
            f"network.integrator: expected one of {', '.join(found.integrators)} for the architecture {name}, got "
            f"{integrator}. Leave it out for {found.integrators[0]}."
        )
    return replace(found, integrator=INTEGRATORS[integrator])


def check_options(found: Architecture, *, x: str, shared_x: bool, gamma: float, J: object) -> None:
    """Raise ValueError, one line, for an option that the architecture does not read or that cannot be.

    x: the pattern of X as "identity", "block_diagonal" or anything else. J: a name or a matrix.
    """
    if not (math.isfinite(gamma) and gamma >= 0):
        raise ValueError(f"network.gamma: expected a damping >= 0, got {gamma}. Use 0 for no damping.")
    named = J if isinstance(J, str) else "given"
    if named not in ("J1", "J2", "trained", "given"):
        raise ValueError(f"network.J: expected J1, J2, trained or a skew matrix, got '{J}'. Choose one of these.")
    changed = {"X": x != "identity", "shared_x": not shared_x, "gamma": gamma != 0, "J": named != "J1"}
    for option, given in changed.items():
        if given and option not in found.options:
            raise ValueError(
                f"network.{option}: expected nothing, because the architecture {found.name} does not use it, got a "
                "value of its own. Leave it out, or choose another architecture."
            )
    if found.interconnection == "J" and named == "J1" and x not in ("identity", "block_diagonal"):
        raise ValueError(
            "network.X: expected nothing with J1, which stays within agents, got a pattern. Leave it out, or choose "
            "J2, trained or a skew matrix."
        )


def _expected(known: dict[str, Architecture] | dict[str, Integrator], got: str) -> str:
    near = {key.lower(): key for key in known}
    close = difflib.get_close_matches(str(got).lower(), near, 1)
    remedy = f"Did you mean {near[close[0]]}?" if close else "Choose one of these."
    return f"expected one of {', '.join(known)}, got '{got}'. {remedy}"
