"""Bring gradients of the weights from the panels of the products back to canonical order.

Panels hold the gradients of some layers of a graph at a time; where panels are in canonical order, they are rows of
the gradients themselves and nothing is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dist_hdnn.dynamics.use import TermGradients
from dist_hdnn.operators.products import GradientSum, layer_panels
from dist_hdnn.operators.sparsity import Arrangement
from dist_hdnn.sweep.pages import in_huge_pages
from dist_hdnn.sweep.weights import WeightPanels, Weights


def new_results(weights: Weights, fixed: frozenset[str]) -> dict[str, list[Tensor]]:
    """Allocate the gradients of all weights but the fixed ones, name by name."""
    return {
        name: [in_huge_pages(torch.empty_like(tensor, memory_format=torch.contiguous_format)) for tensor in tensors]
        for name, tensors in weights.items()
        if name not in fixed
    }


def flat_results(weights: Weights, results: dict[str, list[Tensor]]) -> list[Tensor | None]:
    """List the gradients as `flatten` lists the weights, None for fixed ones."""
    found: list[Tensor | None] = []
    for name, tensors in weights.items():
        found += results.get(name, [None] * len(tensors))  # type: ignore[arg-type]
    return found


class GradientPanels:
    """Panels for every layer's gradients. A backward sweep asks for the layers in one run, up or down.

    panels: of the weights, whose groups of layers it shares. results: where to write gradients, see `new_results`.
    """

    def __init__(self, panels: WeightPanels, results: dict[str, list[Tensor]]) -> None:
        self.architecture, self.operators, self.shared = panels.architecture, panels.operators, panels.shared
        self.groups, self.buffer, self.biases_in_panels = panels.groups, panels.buffer, panels.biases_in_panels
        self.results = results
        self._start = [-1] * len(self.operators)
        self._ready: list[list[list[TermGradients]]] = [[] for _ in self.operators]
        self._panels: list[dict[str, Tensor]] = [{} for _ in self.operators]  # of this group, to be collected
        self._shared: dict[int, GradientSum] = {}  # by graph, of an X that layers share

    def of(self, layer: int) -> list[TermGradients]:
        """Return where a layer's gradients go, for each part's force."""
        s, start, place = self.groups.find(layer)
        if self._start[s] != start:
            self._collect(s)
            self._ready[s] = self._opened(s, self.groups.span(s, start))
            self._start[s] = start
        return self._ready[s][place]

    def finish(self) -> None:
        """Bring what panels still hold to the results."""
        for s in range(len(self.operators)):
            self._collect(s)
        name = self.architecture.interconnection
        if name in self.results:
            self._finish_interconnection(name)

    def _opened(self, s: int, rows: slice) -> list[list[TermGradients]]:
        """Make the sums for the layers of one group, by layer and force."""
        (K, X), architecture, sums = self.operators[s], self.architecture, dict[str, list[GradientSum]]()
        for name in self.results:
            if name in architecture.biases:
                panels = self._bias_panels(name, s, K, rows)
                sums[name] = [GradientSum((row,)) for row in panels.unbind(0)]
            elif name in architecture.matrices:
                sums[name] = [GradientSum(views) for views in layer_panels(K, self._matrix_panels(name, s, K, rows))]
            elif X is not None and self.shared:
                if s not in self._shared:
                    self._shared[s] = GradientSum(layer_panels(X, self._shared_panel(s, X))[0])
                sums[name] = [self._shared[s]] * (rows.stop - rows.start)
            elif X is not None:
                sums[name] = [GradientSum(views) for views in layer_panels(X, self._matrix_panels(name, s, X, rows))]

        def of(name: str, row: int) -> GradientSum | None:
            return sums[name][row] if name in sums else None

        forces, name = architecture.forces, architecture.interconnection
        return [
            [TermGradients(of(force.K, row), of(force.b, row), of(name, row)) for force in forces]
            for row in range(rows.stop - rows.start)
        ]

    def _matrix_panels(self, name: str, s: int, operator: Arrangement, rows: slice) -> Tensor:
        if operator.stored_in_order:
            return self.results[name][s][rows]
        panels = self.buffer("gradient of " + name, s, self.groups.size, operator.stored)[: rows.stop - rows.start]
        self._panels[s][name] = panels
        return panels

    def _bias_panels(self, name: str, s: int, K: Arrangement, rows: slice) -> Tensor:
        if K.rows_in_order if name in self.biases_in_panels else K.states_in_order:
            return self._bias(name, s)[rows]
        panels = self.buffer("gradient of " + name, s, self.groups.size, K.rows)[: rows.stop - rows.start]
        self._panels[s][name] = panels
        return panels

    def _bias(self, name: str, s: int) -> Tensor:
        return self.results[name][0][s :: len(self.operators)]

    def _shared_panel(self, s: int, X: Arrangement) -> Tensor:
        name = self.architecture.interconnection
        if X.stored_in_order and len(self.operators) == 1:
            return self.results[name][0]
        return self.buffer("gradient of " + name, s, 1, X.stored)

    def _collect(self, s: int) -> None:
        """Bring the panels of the graph's last group to canonical order."""
        if self._start[s] < 0:
            return
        rows, (K, X) = self.groups.span(s, self._start[s]), self.operators[s]
        for name, panels in self._panels[s].items():
            if name in self.architecture.biases:
                self._bias(name, s)[rows] = K.restore_rows(panels, of_states=name not in self.biases_in_panels)
            else:
                operator = K if name in self.architecture.matrices else X
                assert operator is not None, "an interconnection has an operator"
                operator.collect(panels, out=self.results[name][s][rows])
        self._panels[s] = {}

    def _finish_interconnection(self, name: str) -> None:
        """Sum the gradient of an X that layers share over the graphs, zero where no layer uses one."""
        if not self.shared:
            for s, result in enumerate(self.results[name]):
                if not self.groups.rows[s]:
                    result.zero_()
            return
        total = self.results[name][0]
        for number, s in enumerate(sorted(self._shared)):
            X = self.operators[s][1]
            assert X is not None, "an interconnection has an operator"
            panel = self._shared_panel(s, X)
            if panel is total:
                continue
            if number:
                total.add_(X.collect(panel))
            else:
                X.collect(panel, out=total)
