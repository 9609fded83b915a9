"""Kᵀ σ(K x + b) and its adjoint over impaired links: what every agent gets is known link by link.

    d = arrive(x)    z = σ(K d + b)    v = Σ arrive(Kᵀ z)                   forward, two rounds
    e = pull(δv)     w = K e ⊙ σ'(u)   δx = Σ pull(Kᵀ w)                    backward, matched
                     δK = z eᵀ + w dᵀ

The panels are those of deterministic sums, one per agent, so each has slices of its own to lose, chunk by chunk as in
`panel_products`. Slices travel between workers as ever; both ends of a link compute its fates alike, see `wires`.
Shapes: as in `panel_products`; edge space (gathered, B), the neurons of a chunk's blocks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from dist_hdnn.links.fates import Round
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import Exchange, GhostedTensor
from dist_hdnn.operators.panel_products import PanelProducts
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.products import BlockWeights, MatrixGradients, Rows, Saved, Sum
from dist_hdnn.operators.wires import Part, Wires


class _Remembered:
    """Slices of earlier layers and cotangents for them, of one round of a chunk: layer -> (gathered, B)."""

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
        self.links, self.where = self.wires.links, self.wires.where
        self._parts = self.wires.parts([count * columns for count, _, columns in operator.shapes])
        self._memory: dict[tuple[int, int, int], _Remembered] = defaultdict(_Remembered)

    def gradient_value(
        self, weights: BlockWeights, x: GhostedTensor, sigma: Activation, saved: Saved, into: Sum | None = None
    ) -> Tensor:
        self.exchange.gather(x)
        self._clear()
        at = Round(self.where.layer, saved.update)
        z = saved.z.views
        u = z if saved.u is None else saved.u.views
        for part, K, KT, b, argument, value in zip(self._parts, *weights, u, z, strict=True):
            torch.baddbmm(b, K, self._arrived(part, x, at), out=argument)
            sigma.value(argument, out=value)
            replies = self._replied(part, KT, value)
            self.wires.rounding(part, self.where.moment, at._replace(reply=1), replies)
            self._answer(part, self._arrive(part, replies, at._replace(reply=1)))
        return self._scattered()

    def gradient_adjoint(
        self,
        weights: BlockWeights,
        v: GhostedTensor,
        scale: float,
        x: GhostedTensor,
        sigma: Activation,
        saved: Saved,
        w: Rows,
        gradients: MatrixGradients,
        into: Sum | None = None,
    ) -> Tensor:
        self.exchange.gather(v)
        self._clear()
        at, moment = Round(self.where.layer, saved.update), self.where.moment
        z, nothing = saved.z.views, [None] * len(self._parts)
        u: Sequence[Tensor | None] = nothing if saved.u is None else saved.u.views
        views, accumulate = (nothing, False) if gradients.K is None else gradients.K.target()
        own = None if self.wires.own_rows is None else torch.zeros_like(self.output.owned)
        arguments = zip(self._parts, weights.panels, weights.transposed, u, z, w.views, views, strict=True)
        for part, K, KT, argument, value, out, dK in arguments:
            slices = self._gathered_slices(part, v)
            self.wires.rounding(part, moment, at._replace(backward=1), slices)
            back = self._panels(part, self._pull(part, slices, at._replace(reply=1)))
            torch.baddbmm(out, K, back, beta=0, alpha=scale, out=out)  # K δ
            sigma.times_slope(out, argument, value, out=out)
            if dK is not None:
                dK.baddbmm_(value, back.mT, beta=int(accumulate), alpha=scale)
                dK.baddbmm_(out, self._arrived(part, x, at, again=True).mT)
            replies = self._replied(part, KT, out)
            if own is not None:
                self._add_own(part, replies, at, own)  # stays here, so it is not rounded
            self.wires.rounding(part, moment, at._replace(reply=1, backward=1), replies)
            self._answer(part, self._pull(part, replies, at))
        if gradients.b is not None:
            self.row_sums(w.flat, gradients.b)
        total = self._scattered()
        return total if own is None else total.add_(own)

    def gradient_tangent(
        self, weights: BlockWeights, v: GhostedTensor, sigma: Activation, saved: Saved, w: Rows
    ) -> Tensor:
        self.exchange.gather(v)
        self._clear()
        at, z = Round(self.where.layer, saved.update), saved.z.views
        u: Sequence[Tensor | None] = [None] * len(z) if saved.u is None else saved.u.views
        arguments = zip(self._parts, weights.panels, weights.transposed, u, z, w.views, strict=True)
        for part, K, KT, argument, value, out in arguments:
            slices = self._arrive(part, self._gathered_slices(part, v), at, v)
            torch.bmm(K, self._panels(part, slices), out=out)
            sigma.times_slope(out, argument, value, out=out)
            self._answer(part, self._arrive(part, self._replied(part, KT, out), at._replace(reply=1)))
        return self._scattered()

    # -- edge space ----------------------------------------------------------------------------------------------------

    def _arrived(self, part: Part, x: GhostedTensor, at: Round, again: bool = False) -> Tensor:
        """Return the panels of what receivers have of x. again: as `gradient_value` of this round had it."""
        if again and self.links.has_memory:
            return self._panels(part, self._memory[at.update, at.reply, part.number].received[at.layer])
        slices = self._gathered_slices(part, x)
        self.wires.rounding(part, self.where.moment, at, slices)
        return self._panels(part, self._arrive(part, slices, at, x))

    def _arrive(self, part: Part, slices: Tensor, at: Round, x: GhostedTensor | None = None) -> Tensor:
        """Lose, delay and fill slices, in place where nothing is remembered. x: where own slices are, of a gather."""
        if self.links.has_memory:
            return self._remember(part, slices, at, x)
        delivered = self.wires.delivered(self.where.moment, at, self.batch)
        if delivered is None:
            return slices
        delivered = delivered[part.edges]
        if x is not None and self.wires.own_rows is not None:
            own = x.tensor.index_select(0, self.wires.own_rows[part.rows])
            return torch.where(part.expanded(delivered), slices, own, out=slices)
        return part.masked(slices, delivered)

    def _pull(self, part: Part, slices: Tensor, at: Round) -> Tensor:
        """Apply the transpose of what `_arrive` did in this round."""
        if self.links.has_memory:
            return self._recall(part, slices, at)
        moment = self.where.moment
        if self.links.backward == "independent" and moment.training:
            message = at._replace(reply=1 - at.reply, backward=1)  # cotangents travel the other way
            slices.mul_(self.wires.likely(part, message, slices, moment.strength))
            at = message
        delivered = self.wires.delivered(moment, at, self.batch)
        return slices if delivered is None else part.masked(slices, delivered[part.edges])

    def _add_own(self, part: Part, cotangents: Tensor, at: Round, own: Tensor) -> None:
        """Add the cotangents of lost slices in whose place agents took their own, to owned rows."""
        assert self.wires.own_rows is not None, "lost slices are filled with own ones"
        if self.links.has_memory:
            arrived, _ = self._sources(part, at)
        else:
            delivered = self.wires.delivered(self.where.moment, at, self.batch)
            if delivered is None:
                return
            arrived = delivered[part.edges]
        own.index_add_(0, self.wires.own_rows[part.rows], cotangents * part.expanded(~arrived))

    # -- receivers that remember, and slices that are late -------------------------------------------------------------

    def _sources(self, part: Part, at: Round) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """Return which receivers get a slice in this round, (edges, B), and from which layers: (layer, which)."""
        moment, wires = self.where.moment, self.wires
        delays = wires.delays(moment, at.reply, self.batch)
        layers = range(at.layer, max(at.layer - self.links.longest_delay, 0) - 1, -1)
        sources = []
        for layer in layers:
            delivered = wires.delivered(moment, at._replace(layer=layer), self.batch)
            if delivered is None:
                came = torch.ones(part.edges.stop - part.edges.start, self.batch, dtype=torch.bool)
            else:
                came = delivered[part.edges]
            if delays is not None:
                came = came & (delays[part.edges] == at.layer - layer)
            sources.append((layer, came))
        arrived = sources[0][1].clone()
        for _, came in sources[1:]:
            arrived |= came
        return arrived, sources

    def _remember(self, part: Part, slices: Tensor, at: Round, x: GhostedTensor | None) -> Tensor:
        memory = self._memory[at.update, at.reply, part.number]
        memory.sent[at.layer] = slices.clone()
        memory.sent.pop(at.layer - self.links.longest_delay - 1, None)
        arrived, sources = self._sources(part, at)
        received = torch.zeros_like(slices)
        for layer, came in sources:
            received.addcmul_(memory.sent[layer], part.expanded(came).to(slices.dtype))
        missing, before = part.expanded(~arrived).to(slices.dtype), memory.received.get(at.layer - 1)
        if self.links.fill == "own" and x is not None and self.wires.own_rows is not None:
            received.addcmul_(missing, x.tensor.index_select(0, self.wires.own_rows[part.rows]))
        elif self.links.fill in ("hold", "predict") and before is not None and at.layer:
            earlier = memory.received.get(at.layer - 2) if at.layer > 1 else None
            if self.links.fill == "predict" and earlier is not None:
                before = 2.0 * before - earlier
            received.addcmul_(missing, before)
        memory.received[at.layer] = received
        return received

    def _recall(self, part: Part, cotangents: Tensor, at: Round) -> Tensor:
        memory = self._memory[at.update, at.reply, part.number]
        if at.layer == self.where.layers - 1:
            memory.due_sent, memory.due_received = {}, {}
        total = cotangents.clone()
        if at.layer in memory.due_received:
            total += memory.due_received.pop(at.layer)
        arrived, sources = self._sources(part, at)
        missing = part.expanded(~arrived).to(total.dtype) * total
        if self.links.fill in ("hold", "predict") and at.layer:
            line = self.links.fill == "predict" and at.layer > 1
            _add(memory.due_received, at.layer - 1, missing, 2.0 if line else 1.0)
            if line:
                _add(memory.due_received, at.layer - 2, missing, -1.0)
        for layer, came in sources:
            _add(memory.due_sent, layer, total * part.expanded(came).to(total.dtype))
        return memory.due_sent.pop(at.layer)

    # -- between column space and edge space ---------------------------------------------------------------------------

    def _gathered_slices(self, part: Part, x: GhostedTensor) -> Tensor:
        chunk = self._chunks[part.number]
        return torch.index_select(x.tensor, 0, chunk.columns, out=chunk.flat)

    def _panels(self, part: Part, slices: Tensor) -> Tensor:
        return slices.view(self._chunks[part.number].panels.shape)

    def _replied(self, part: Part, KT: Tensor, z: Tensor) -> Tensor:
        """Return the contributions Kᵀ z of a chunk's blocks."""
        chunk = self._chunks[part.number]
        torch.bmm(KT, z, out=chunk.panels)
        return chunk.flat

    def _answer(self, part: Part, replies: Tensor) -> None:
        """Add the replies of a chunk to the output, or keep them where they are summed in order at the end."""
        chunk = self._chunks[part.number]
        if self._adds:
            self.output.tensor.index_add_(0, chunk.columns, replies)
        elif replies.data_ptr() != chunk.flat.data_ptr():
            chunk.flat.copy_(replies)


def _add(due: dict[int, Tensor], layer: int, value: Tensor, factor: float = 1.0) -> None:
    due[layer] = due[layer].add(value, alpha=factor) if layer in due else value * factor
