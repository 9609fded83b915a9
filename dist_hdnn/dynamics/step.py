"""One update of a layer, part := part + c h force(source), and what is made of it: adjoint, tangent and inverse.

Shapes: the source in column space (owned + ghost neurons of its part, B), all else owned rows (neurons of a part, B).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dist_hdnn.dynamics.reversal import Reversal
from dist_hdnn.dynamics.terms import Memory, Term, TermGradients, TermWeights
from dist_hdnn.operators.products import Sum, taken


@dataclass(frozen=True)
class Update:
    """part := old + scale * term(x), or part := term(x) if it replaces; all tensors are memory of one batch.

    part: what it advances, and whose weights it takes. source: the part that x is of.
    dv: the cotangent of `part`, in column space where the term gathers it.
    fresh: None, or (version of the source, owned rows of x): x is a copy of its own, because the version is read with
        other ghosts elsewhere and the adjoint must find them all.
    reversal: the term's value and adjoint in the same rounds, where there is such a form and it is wanted.
    """

    part: int
    source: int
    term: Term
    memory: Memory
    x: Tensor
    fresh: tuple[Tensor, Tensor] | None
    dv: Tensor
    old: Tensor
    new: Tensor
    scale: float
    replaces: bool
    reversal: Reversal | None = None

    def advance(self, weights: Sequence[TermWeights]) -> None:
        """Old -> new."""
        if self.replaces:
            self.new.copy_(self.rate(weights))
        else:
            self._add(weights, Sum(self.old, self.scale, self.new))

    def undo(self, weights: Sequence[TermWeights]) -> None:
        """New -> old, where the source is another part."""
        self._add(weights, Sum(self.new, -self.scale, self.old))

    def pull(self, d: Sequence[Tensor], weights: Sequence[TermWeights], gradients: Sequence[TermGradients]) -> None:
        """Cotangents of all parts after the update -> before it, in place; adds the weight gradients wanted."""
        part, of_source = self.part, d[self.source]
        arguments = self.dv, self.scale, self.x, weights[part], self.memory, gradients[part]
        if self.replaces:
            d[part].copy_(self.term.adjoint(*arguments))
        elif part == self.source:
            of_source.add_(self.term.adjoint(*arguments))
        else:
            self.term.adjoint(*arguments, Sum(of_source, 1.0, of_source))

    def retrace(self, d: Sequence[Tensor], weights: Sequence[TermWeights], gradients: Sequence[TermGradients]) -> None:
        """`undo` and `pull` in one, where the source is another part."""
        part = self.part
        if self.reversal is None:
            self.undo(weights)  # leaves the ghosts and the z that the adjoint needs
            self.pull(d, weights, gradients)
            return
        undone, pulled = Sum(self.new, -self.scale, self.old), Sum(d[self.source], 1.0, d[self.source])
        self.reversal(self.x, self.dv, self.scale, weights[part], self.memory, gradients[part], undone, pulled)

    def push(self, d: Sequence[Tensor], weights: Sequence[TermWeights]) -> None:
        """Tangents of all parts before the update -> after it, in place."""
        dv = self.term.tangent(d[self.source], weights[self.part], self.memory)
        if self.replaces:
            d[self.part].copy_(dv)
        else:
            d[self.part].add_(dv, alpha=self.scale)

    def rate(self, weights: Sequence[TermWeights]) -> Tensor:
        """term(source), (neurons, B), valid until the term is used again."""
        self._refresh()
        return self.term.value(self.x, weights[self.part], self.memory)

    def _add(self, weights: Sequence[TermWeights], into: Sum) -> None:
        if self.part == self.source:  # the sum would overwrite what is read
            taken(self.rate(weights), into)
        else:
            self._refresh()
            self.term.value(self.x, weights[self.part], self.memory, into)

    def _refresh(self) -> None:
        if self.fresh is not None:
            version, copy = self.fresh
            copy.copy_(version)
