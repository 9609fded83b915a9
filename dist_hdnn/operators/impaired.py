"""Kᵀ σ(K x + b) and its adjoint over impaired links: what every agent gets is known link by link.

    d = arrive(x)    z = σ(K d + b)    v = Σ arrive(Kᵀ z)                   forward, two rounds
    e = pull(δv)     w = K e ⊙ σ'(u)   δx = Σ pull(Kᵀ w)                    backward, matched
                     δK = z eᵀ + w dᵀ

The panels are those of deterministic sums, one per agent, so each has slices of its own to lose. Slices travel between
workers as ever; both ends of a link compute its fates alike, see `wires`.
Shapes: as in `panel_products`; edge space (gathered, B), the neurons of all blocks.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from dist_hdnn.links.fates import Round
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import Exchange, GhostedTensor
from dist_hdnn.operators.panel_products import PanelProducts
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.products import BlockWeights, GradientSum, Rows, Saved, Sum, Views
from dist_hdnn.operators.wires import Wires


class _Remembered:
    """Slices of earlier layers and cotangents for them, of one round: layer -> (gathered, B)."""

    def __init__(self) -> None:
        self.sent: dict[int, Tensor] = {}
        self.received: dict[int, Tensor] = {}
        self.due_sent: dict[int, Tensor] = {}
        self.due_received: dict[int, Tensor] = {}


class ImpairedProducts(PanelProducts):
    """See `BlockProducts`. Only the gradient and its adjoint go over links; other products take them for perfect."""

    def __init__(self, operator: PanelOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        assert exchange.wires is not None, "the links are impaired"
        self.wires: Wires = exchange.wires
        self.links, self.where = self.wires.links, exchange.where
        self._slices, self._replies, self._cotangents = (
            self._like.new_empty(operator.gathered, self.batch) for _ in range(3)
        )
        self._memory: dict[tuple[int, int], _Remembered] = defaultdict(_Remembered)

    def gradient_value(
        self, weights: BlockWeights, x: GhostedTensor, sigma: Activation, saved: Saved, into: Sum | None = None
    ) -> Tensor:
        self.exchange.gather(x)
        at = Round(self.where.layer, saved.update)
        slices = self._arrived(x, at)
        u = saved.z if saved.u is None else saved.u
        for K, b, part, argument in zip(weights.panels, weights.bias, self._panels(slices), u.views, strict=True):
            torch.baddbmm(b, K, part, out=argument)
        sigma.value(u.flat, out=saved.z.flat)
        replies = self._replied(weights, saved.z)
        self.wires.rounding(self.where.moment, at._replace(reply=1), replies)
        return self._summed(self._arrive(replies, at._replace(reply=1)))

    def gradient_adjoint(
        self,
        weights: BlockWeights,
        v: GhostedTensor,
        scale: float,
        x: GhostedTensor,
        sigma: Activation,
        saved: Saved,
        w: Rows,
        gradient: GradientSum | None,
        into: Sum | None = None,
    ) -> Tensor:
        self.exchange.gather(v)
        at = Round(self.where.layer, saved.update)
        back = self._gathered_whole(v, self._cotangents)
        self.wires.rounding(self.where.moment, at._replace(backward=1), back)
        back = self._pull(back, at._replace(reply=1))
        for K, part, out in zip(weights.panels, self._panels(back), w.views, strict=True):
            torch.baddbmm(out, K, part, beta=0, alpha=scale, out=out)
        sigma.times_slope(w.flat, None if saved.u is None else saved.u.flat, saved.z.flat, out=w.flat)
        if gradient is not None:
            views, accumulate = gradient.target()
            slices = self._arrived(x, at, again=True)
            parts = zip(views, saved.z.views, w.views, self._panels(back), self._panels(slices), strict=True)
            for dK, z, out, of_v, of_x in parts:
                dK.baddbmm_(z, of_v.mT, beta=int(accumulate), alpha=scale)
                dK.baddbmm_(out, of_x.mT)
        replies = self._replied(weights, w)
        own = self._own_share(replies, at)  # stays here, so it is not rounded
        self.wires.rounding(self.where.moment, at._replace(reply=1, backward=1), replies)
        total = self._summed(self._pull(replies, at))
        return total if own is None else total.add_(own)

    def gradient_tangent(
        self, weights: BlockWeights, v: GhostedTensor, sigma: Activation, saved: Saved, w: Rows
    ) -> Tensor:
        self.exchange.gather(v)
        at = Round(self.where.layer, saved.update)
        slices = self._arrive(self._gathered_whole(v, self._slices), at, v)
        for K, part, out in zip(weights.panels, self._panels(slices), w.views, strict=True):
            torch.bmm(K, part, out=out)
        sigma.times_slope(w.flat, None if saved.u is None else saved.u.flat, saved.z.flat, out=w.flat)
        return self._summed(self._arrive(self._replied(weights, w), at._replace(reply=1)))

    # -- edge space ----------------------------------------------------------------------------------------------------

    def _arrived(self, x: GhostedTensor, at: Round, again: bool = False) -> Tensor:
        """Return what receivers have of the slices of x. again: as `gradient_value` of this round had it."""
        if again and self.links.has_memory:
            return self._memory[at.update, 0].received[at.layer]
        slices = self._gathered_whole(x, self._slices)
        self.wires.rounding(self.where.moment, at, slices)
        return self._arrive(slices, at, x)

    def _arrive(self, slices: Tensor, at: Round, x: GhostedTensor | None = None) -> Tensor:
        """Lose, delay and fill slices, in place where nothing is remembered. x: where own slices are, of a gather."""
        if self.links.has_memory:
            return self._remember(slices, at, x)
        delivered = self.wires.delivered(self.where.moment, at, self.batch)
        if delivered is None:
            return slices
        if x is not None and self.wires.own_rows is not None:
            there = self.wires.expanded(delivered)
            return torch.where(there, slices, x.tensor.index_select(0, self.wires.own_rows), out=slices)
        return self._masked(slices, delivered)

    def _pull(self, slices: Tensor, at: Round) -> Tensor:
        """Apply the transpose of what `_arrive` did in this round."""
        if self.links.has_memory:
            return self._recall(slices, at)
        moment = self.where.moment
        if self.links.backward == "independent" and moment.training:
            message = at._replace(reply=1 - at.reply, backward=1)  # cotangents travel the other way
            slices.mul_(self.wires.likely(message, slices, moment.strength))
            at = message
        delivered = self.wires.delivered(moment, at, self.batch)
        return slices if delivered is None else self._masked(slices, delivered)

    def _masked(self, slices: Tensor, delivered: Tensor) -> Tensor:
        neurons = self.wires.neurons
        if neurons is None:
            return slices.mul_(self.wires.expanded(delivered))
        slices.view(-1, neurons, self.batch).mul_(delivered[:, None])
        return slices

    def _own_share(self, cotangents: Tensor, at: Round) -> Tensor | None:
        """Sum the cotangents of lost slices in whose place agents took their own, owned rows; None without."""
        if self.wires.own_rows is None:
            return None
        if self.links.has_memory:
            arrived, _ = self._sources(at)
        else:
            delivered = self.wires.delivered(self.where.moment, at, self.batch)
            if delivered is None:
                return None
            arrived = delivered
        lost = cotangents * self.wires.expanded(~arrived)
        return torch.zeros_like(self.output.owned).index_add_(0, self.wires.own_rows, lost)

    # -- receivers that remember, and slices that are late -------------------------------------------------------------

    def _sources(self, at: Round) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """Return which receivers get a slice in this round, (edges, B), and from which layers: (layer, which)."""
        moment, wires = self.where.moment, self.wires
        delays = wires.delays(moment, at.reply, self.batch)
        layers = range(at.layer, max(at.layer - self.links.longest_delay, 0) - 1, -1)
        sources = []
        for layer in layers:
            came = wires.delivered(moment, at._replace(layer=layer), self.batch)
            if came is None:
                came = torch.ones(wires.edges, self.batch, dtype=torch.bool)
            if delays is not None:
                came = came & (delays == at.layer - layer)
            sources.append((layer, came))
        arrived = sources[0][1].clone()
        for _, came in sources[1:]:
            arrived |= came
        return arrived, sources

    def _remember(self, slices: Tensor, at: Round, x: GhostedTensor | None) -> Tensor:
        memory, expanded = self._memory[at.update, at.reply], self.wires.expanded
        memory.sent[at.layer] = slices.clone()
        memory.sent.pop(at.layer - self.links.longest_delay - 1, None)
        arrived, sources = self._sources(at)
        received = torch.zeros_like(slices)
        for layer, came in sources:
            received.addcmul_(memory.sent[layer], expanded(came).to(slices.dtype))
        missing, before = expanded(~arrived).to(slices.dtype), memory.received.get(at.layer - 1)
        if self.links.fill == "own" and x is not None and self.wires.own_rows is not None:
            received.addcmul_(missing, x.tensor.index_select(0, self.wires.own_rows))
        elif self.links.fill in ("hold", "predict") and before is not None and at.layer:
            earlier = memory.received.get(at.layer - 2) if at.layer > 1 else None
            if self.links.fill == "predict" and earlier is not None:
                before = 2.0 * before - earlier
            received.addcmul_(missing, before)
        memory.received[at.layer] = received
        return received

    def _recall(self, cotangents: Tensor, at: Round) -> Tensor:
        memory, expanded = self._memory[at.update, at.reply], self.wires.expanded
        if at.layer == self.where.layers - 1:
            memory.due_sent, memory.due_received = {}, {}
        total = cotangents.clone()
        if at.layer in memory.due_received:
            total += memory.due_received.pop(at.layer)
        arrived, sources = self._sources(at)
        missing = expanded(~arrived).to(total.dtype) * total
        if self.links.fill in ("hold", "predict") and at.layer:
            line = self.links.fill == "predict" and at.layer > 1
            _add(memory.due_received, at.layer - 1, missing, 2.0 if line else 1.0)
            if line:
                _add(memory.due_received, at.layer - 2, missing, -1.0)
        for layer, came in sources:
            _add(memory.due_sent, layer, total * expanded(came).to(total.dtype))
        return memory.due_sent.pop(at.layer)

    # -- between column space and edge space ---------------------------------------------------------------------------

    def _gathered_whole(self, x: GhostedTensor, out: Tensor) -> Tensor:
        return torch.index_select(x.tensor, 0, self.operator.columns, out=out)

    def _panels(self, slices: Tensor) -> Views:
        parts = slices.split([count * columns for count, _, columns in self.operator.shapes])
        shapes = self.operator.shapes
        return tuple(
            part.view(count, columns, self.batch) for part, (count, _, columns) in zip(parts, shapes, strict=True)
        )

    def _replied(self, weights: BlockWeights, rows: Rows) -> Tensor:
        """Return the contributions Kᵀ z of all blocks."""
        for KT, z, part in zip(weights.transposed, rows.views, self._panels(self._replies), strict=True):
            torch.bmm(KT, z, out=part)
        return self._replies

    def _summed(self, contributions: Tensor) -> Tensor:
        if self.exchange.links is not None:
            self.exchange.links.sum(contributions, self.output.owned)
        else:
            self.output.tensor.zero_().index_add_(0, self.operator.columns, contributions)
            self.exchange.scatter_add(self.output)
        return self.output.owned


def _add(due: dict[int, Tensor], layer: int, value: Tensor, factor: float = 1.0) -> None:
    due[layer] = due[layer].add(value, alpha=factor) if layer in due else value * factor
