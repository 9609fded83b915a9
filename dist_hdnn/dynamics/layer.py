"""What a layer computes, whatever the batch: its architecture on the matrices and exchanges of one graph.

K, X of a graph, bound to a batch   ->   one term for each part of the state
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dist_hdnn.dynamics.architectures import Architecture
from dist_hdnn.dynamics.interconnection import Interconnected
from dist_hdnn.dynamics.linear import COUPLINGS
from dist_hdnn.dynamics.reversal import GradientReversal, InterconnectedReversal, has_gradient, reversal
from dist_hdnn.dynamics.terms import TERMS, Gradient
from dist_hdnn.dynamics.use import Constants, Term
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.choice import bind
from dist_hdnn.operators.exchange import Exchange, Silent
from dist_hdnn.operators.products import BlockProducts
from dist_hdnn.operators.sparsity import BlockOperator


class Coupling(NamedTuple):
    """What couples agents in the layers of one graph: K with its exchange, and X unless it is the identity."""

    K: BlockOperator
    K_exchange: Exchange
    X: BlockOperator | None = None
    X_exchange: Exchange | None = None

    def bound(self, like: Tensor) -> tuple[BlockProducts, BlockProducts | None]:
        """Bind K and X to the memory of a batch (batch, neurons) like `like`."""
        X = None if self.X is None or self.X_exchange is None else bind(self.X, self.X_exchange, like)
        return bind(self.K, self.K_exchange, like), X


class LayerSpec(NamedTuple):
    """The layers of a network. Layer j uses the coupling j mod their number; h: step, gamma: damping."""

    architecture: Architecture
    couplings: list[Coupling]
    sigma: Activation
    layers: int
    h: float
    gamma: float = 0.0

    def terms(self, K: BlockProducts, X: BlockProducts | None) -> list[Term]:
        """Make each part's term. All parts share one gradient, because they take turns."""
        terms: list[Term] = []
        gradient: Gradient | None = None
        for force in self.architecture.forces:
            constants = Constants(self.sigma, self.h, self.gamma, force)
            if TERMS[force.kind] is not Gradient:
                terms.append(TERMS[force.kind](K, constants))
                continue
            gradient = gradient or Gradient(K, constants)
            if X is None or not force.interconnection:
                terms.append(gradient)
            else:
                terms.append(Interconnected(gradient, COUPLINGS[force.interconnection](X), X))
        return terms

    def reversals(
        self, coupling: Coupling, terms: list[Term], like: Tensor
    ) -> list[GradientReversal | InterconnectedReversal | None]:
        """Make each part's value and adjoint in the same rounds, if its term has that form and sums are not ordered."""
        joint = None
        if any(map(has_gradient, terms)) and coupling.K_exchange.links is None:  # one for all parts: they take turns
            silent = bind(coupling.K, Silent(coupling.K.rows), like)
            constants = Constants(self.sigma, self.h, self.gamma, self.architecture.forces[0])
            joint = GradientReversal(Gradient(silent, constants), coupling.K_exchange)
        return [reversal(term, joint) for term in terms]
