"""Weights between canonical order, in which parameters live, and the panels of the products; and their gradients back.

    weights    name -> tensors: of a matrix one per stage (layers of the stage, entries), of a bias one (layers, rows)

Layer j belongs to stage j mod the number of stages. The interconnection (X or J) may be one for all layers: then it is
one tensor (1, entries). Done once per sweep, all layers together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dist_hdnn.layers.architectures import Architecture
from dist_hdnn.layers.dynamics import TermGradients, TermWeights
from dist_hdnn.layers.linear import GradientSum
from dist_hdnn.layers.operators import Arrangement
from dist_hdnn.layers.products import BlockWeights, layer_panels, layer_weights

Weights = dict[str, list[Tensor]]
Operators = Sequence[tuple[Arrangement, Arrangement | None]]
"""Of every stage: the arrangement of K, and that of X or J."""
Buffer = Callable[[str, int, int, int], Tensor]
"""(name, stage, layers, stored) -> panels (layers, stored) that keep their zeros."""


def flatten(weights: Weights) -> list[Tensor]:
    """All tensors, name by name."""
    return [tensor for tensors in weights.values() for tensor in tensors]


def unflatten(tensors: Sequence[Tensor], counts: Mapping[str, int]) -> Weights:
    """The inverse of `flatten`, given how many tensors each name has."""
    remaining = iter(tensors)
    return {name: [next(remaining) for _ in range(count)] for name, count in counts.items()}


def arranged(
    weights: Weights, architecture: Architecture, operators: Operators, layers: int, shared: bool, buffer: Buffer
) -> list[list[TermWeights]]:
    """For every layer the weights of each part's force, as views of panels."""
    count = len(operators)
    dealt = []
    for s, (K, X) in enumerate(operators):
        rows = len(range(s, layers, count))
        panels = {name: K.arrange(weights[name][s], buffer(name, s, rows, K.stored)) for name in architecture.matrices}
        couplings: Sequence[BlockWeights | None] = [None] * rows
        if architecture.interconnection and X is not None:
            source = weights[architecture.interconnection][0 if shared else s]
            buffered = buffer(architecture.interconnection, s, len(source), X.stored)
            couplings = layer_weights(X, X.arrange(source, buffered)) * (rows if shared else 1)
        forces = []
        for force in architecture.forces:
            matrices: Sequence[BlockWeights | None] = [None] * rows
            biases: Sequence[Tensor | None] = [None] * rows
            if force.K:
                bias = weights[force.b][0][s::count]
                in_panel_order = K.order_rows(bias) if force.bias_in_panels else None
                matrices = layer_weights(K, panels[force.K], in_panel_order)
                biases = biases if force.bias_in_panels else bias.unsqueeze(-1).unbind(0)
            forces.append([TermWeights(*row) for row in zip(matrices, biases, couplings, strict=True)])
        dealt.append([list(layer) for layer in zip(*forces, strict=True)])
    return [dealt[layer % count][layer // count] for layer in range(layers)]


class GradientPanels:
    """Memory of all weights' gradients in panel order: `layers` are its views per layer and part.

    fixed: names of weights that get no gradient. like: tells dtype and device.
    """

    def __init__(
        self,
        weights: Weights,
        architecture: Architecture,
        operators: Operators,
        layers: int,
        shared: bool,
        buffer: Buffer,
        fixed: frozenset[str],
        like: Tensor,
    ) -> None:
        self.architecture, self.operators, self.count, self.shared = architecture, operators, layers, shared
        self.panels: list[dict[str, Tensor]] = []
        self.sums: list[dict[str, list[GradientSum]]] = []

        def memory(name: str, s: int, operator: Arrangement, rows: int) -> Tensor:
            if operator.stored_in_order:  # handed to autograd as it is, so it must be new
                return like.new_empty(rows, operator.stored)
            return buffer("gradient of " + name, s, rows, operator.stored)

        for s, (K, X) in enumerate(operators):
            rows = len(range(s, layers, len(operators)))
            panels = {name: memory(name, s, K, rows) for name in architecture.matrices if name not in fixed}
            sums = {name: [GradientSum(views) for views in layer_panels(K, panel)] for name, panel in panels.items()}
            for name in architecture.biases:
                panels[name] = like.new_empty(rows, K.rows)
                sums[name] = [GradientSum((row,)) for row in panels[name].unbind(0)]
            name = architecture.interconnection
            if name and name not in fixed and X is not None:
                panels[name] = memory(name, s, X, 1 if shared else rows)
                views = [GradientSum(view) for view in layer_panels(X, panels[name])]
                sums[name] = views * (rows if shared else 1)
            self.panels.append(panels)
            self.sums.append(sums)
        self.layers = [self._layer(self.sums[j % len(operators)], j // len(operators)) for j in range(layers)]

    def _layer(self, sums: dict[str, list[GradientSum]], row: int) -> list[TermGradients]:
        def of(name: str) -> GradientSum | None:
            return sums[name][row] if name in sums else None

        coupling = self.architecture.interconnection
        return [TermGradients(of(force.K), of(force.b), of(coupling)) for force in self.architecture.forces]

    def collected(self, like: Weights) -> list[Tensor | None]:
        """Gradients in canonical order, flat as `flatten` has them; None for fixed weights."""
        stages = len(self.operators)
        for panels, sums in zip(self.panels, self.sums, strict=True):
            for name, layers in sums.items():
                if not layers:  # no layer uses this stage, but X is everyone's
                    panels[name].zero_()
        gradients: list[Tensor | None] = []
        for name, tensors in like.items():
            if name not in self.panels[0]:
                gradients += [None] * len(tensors)
            elif name in self.architecture.biases:
                whole = torch.empty_like(tensors[0])
                in_panels = self.architecture.bias_in_panels(name)
                for s, (K, _) in enumerate(self.operators):
                    rows = self.panels[s][name]
                    whole[s::stages] = K.restore_rows(rows) if in_panels else rows
                gradients.append(whole)
            elif name in self.architecture.matrices:
                gradients += [K.collect(self.panels[s][name]) for s, (K, _) in enumerate(self.operators)]
            else:
                couplings = [X.collect(self.panels[s][name]) for s, (_, X) in enumerate(self.operators) if X]
                gradients += [torch.stack(couplings).sum(0)] if self.shared and len(couplings) > 1 else couplings
        return gradients
