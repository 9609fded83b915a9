"""A layer for any batch: its architecture on the matrices and exchanges of one graph.

K, X of a graph, bound to a batch   ->   one term for each part of the state
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from torch import Tensor

from dist_hdnn.dynamics.architectures import Architecture
from dist_hdnn.dynamics.interconnection import Interconnected
from dist_hdnn.dynamics.linear import INTERCONNECTIONS
from dist_hdnn.dynamics.reversal import GradientReversal, Reversal, reversal
from dist_hdnn.dynamics.terms import TERMS, Gradient
from dist_hdnn.dynamics.use import Constants, Term
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.choice import bind
from dist_hdnn.operators.exchange import Silent
from dist_hdnn.operators.ghosted import Exchange
from dist_hdnn.operators.products import BlockProducts
from dist_hdnn.operators.sparsity import BlockOperator


class GraphOperators(NamedTuple):
    """The operators of the layers of one graph: K with its exchange, and X with its own unless it is the identity."""

    K: BlockOperator
    K_exchange: Exchange
    X: BlockOperator | None = None
    X_exchange: Exchange | None = None

    def bound(self, like: Tensor) -> tuple[BlockProducts, BlockProducts | None]:
        """Bind K and X to the memory of a batch (batch, neurons) like `like`."""
        X = None if self.X is None or self.X_exchange is None else bind(self.X, self.X_exchange, like)
        return bind(self.K, self.K_exchange, like), X


class LayerSpec(NamedTuple):
    """The layers of a network. Layer j uses graph j mod their number. h: step, gamma: damping."""

    architecture: Architecture
    graphs: list[GraphOperators]
    sigma: Activation
    layers: int
    h: float
    gamma: float = 0.0

    def terms(self, K: BlockProducts, X: BlockProducts | None) -> list[Term]:
        """Make each part's term. All parts share one gradient, because they take turns."""
        terms: list[Term] = []
        gradient: Gradient | None = None
        for force in self.architecture.forces:
            constants = self.constants(force.factor)
            if TERMS[force.kind] is not Gradient:
                terms.append(TERMS[force.kind](K, constants))
                continue
            gradient = gradient or Gradient(K, constants)
            if X is None or not force.interconnection:
                terms.append(gradient)
            else:
                terms.append(Interconnected(gradient, INTERCONNECTIONS[force.interconnection](X), X))
        return terms

    def reversals(self, graph: GraphOperators, terms: list[Term], like: Tensor) -> list[Reversal | None]:
        """Make each part's value and adjoint in the same rounds, if its term has that form.

        Not where links count: where sums are ordered, or links impaired.
        """
        if graph.K_exchange.links is not None or graph.K_exchange.wires is not None:
            return [None] * len(terms)

        @cache  # one for all parts, because they take turns
        def joint() -> GradientReversal:
            silent = bind(graph.K, Silent(graph.K.rows), like)
            return GradientReversal(Gradient(silent, self.constants()), graph.K_exchange)

        return [reversal(term, joint) for term in terms]

    def constants(self, factor: float = 1.0) -> Constants:
        """Return the constants of a term."""
        return Constants(self.sigma, self.h, self.gamma, factor)
