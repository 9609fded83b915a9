"""Products by register tiles where links only lose slices: kernels that take what is lost as zero, see `kernels`.

    v = Kᵀ σ(K x + b)     d = m ⊙ x by row, r ⊙ z by column    m, r: which slices and which replies arrive
    its adjoint           r ⊙ δv by row, m ⊙ w by column, and δK = z (r ⊙ δv)ᵀ + w (m ⊙ x)ᵀ

Nothing is stored per edge but one bit a sample and round, drawn as `wires` does. Other impairments: `impaired`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.links.fates import BoolArray, Moment, Round, limits
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import Exchange, GhostedTensor
from dist_hdnn.operators.products import BlockWeights, MatrixGradients, Rows, Saved, Sum
from dist_hdnn.operators.tiles.machine import Code, Compiled, Value, compile_function, ir, once
from dist_hdnn.operators.tiles.operator import TileOperator
from dist_hdnn.operators.tiles.products import TileProducts
from dist_hdnn.operators.wires import KEPT, Wires

Bits = NDArray[np.uint8]
GROUP = 16  # samples that one vector of the kernel draws


class MaskedTileProducts(TileProducts):
    """See `BlockProducts`. Only the gradient and its adjoint go over links; other products take them for perfect."""

    def __init__(self, operator: TileOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        assert isinstance(exchange.wires, Wires), "the links are impaired"
        self._masks = Masks(exchange.wires, self.batch)
        self._where = exchange.wires.where
        self._links = [self._masks.number[work.segments.block] for work in (self._by_row, self._by_column)]

    def gradient_value(
        self, weights: BlockWeights, x: GhostedTensor, sigma: Activation, saved: Saved, into: Sum | None = None
    ) -> Tensor | None:
        with self._lossy(saved.update):
            return super().gradient_value(weights, x, sigma, saved, into)

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
    ) -> Tensor | None:
        with self._lossy(saved.update, adjoint=True):
            return super().gradient_adjoint(weights, v, scale, x, sigma, saved, w, gradients, into)

    def gradient_tangent(
        self, weights: BlockWeights, v: GhostedTensor, sigma: Activation, saved: Saved, w: Rows
    ) -> Tensor:
        with self._lossy(saved.update):
            return super().gradient_tangent(weights, v, sigma, saved, w)

    @contextmanager
    def _lossy(self, update: int, adjoint: bool = False) -> Iterator[None]:
        """Let the kernels read the fates of an update: of slices by row and of replies by column, or vice versa."""
        at, moment = Round(self._where.layer, update), self._where.moment
        fates = [self._masks.delivered(moment, at._replace(reply=reply)) for reply in (0, 1)]
        by_row, by_column = reversed(fates) if adjoint else fates
        for work, links, first, second in zip(
            (self._by_row, self._by_column), self._links, (by_row, by_column), (by_column, by_row), strict=True
        ):
            work.read(*(array.ctypes.data for array in (links, first, second)), self._masks.stride)
        self._masked = True
        try:
            yield
        finally:
            self._masked = False


class Masks:
    """Which messages of a round arrive, as bits: (edges, stride) bytes, sample k in bit k % 8 of byte k // 8 of a row.

    number: the row of every block of the pattern. stride: bytes of a row, so many that any mask can be read as 4 bytes.
    """

    def __init__(self, wires: Wires, batch: int) -> None:
        self.wires, self.batch = wires, batch
        self.groups = -(-batch // GROUP)
        self.stride = GROUP // 8 * self.groups + 4
        self.number = np.empty_like(wires.order)
        self.number[wires.order] = np.arange(wires.edges)
        self._all = np.full((wires.edges, self.stride), 255, dtype=np.uint8)
        self._memory: dict[Round, Bits] = {}  # the bits of rounds, and those of the sweep at hand
        self._drawn: dict[Round, Bits] = {}
        self._sweep: Hashable = None
        self._uncut: list[Bits | None] = []
        self._limits: list[tuple[NDArray[np.uint32], BoolArray] | None] = []
        self._words = [self._of_edges(keys.words) for keys in wires.loss_keys]
        self._samples = np.zeros(GROUP * self.groups, dtype=np.uint32)

    def delivered(self, moment: Moment, at: Round) -> Bits:
        """Return the bits of a round's messages, valid until those of another sweep are asked for."""
        self._enter(moment)
        if at not in self._drawn:
            self._drawn[at] = self._delivered(moment, at)
        return self._drawn[at]

    def _enter(self, moment: Moment) -> None:
        wires, table = self.wires, self.wires.links.table
        sweep = moment, wires.links.dead
        if self._sweep == sweep:
            return
        wires.enter(moment, self.batch)
        self._sweep, self._drawn = sweep, {}
        self._uncut = [None if cut is None else self._packed(~cut) for cut in wires.cut]
        self._samples[: self.batch] = wires.loss_keys[0].samples(moment, self.batch)
        self._limits = []
        for rows in wires.rows:
            probability = table.loss[rows] * moment.strength
            values, certain = limits(probability)
            of_edges = self._of_edges(values), self._of_edges(certain)
            self._limits.append(of_edges if probability.any() else None)

    def _delivered(self, moment: Moment, at: Round) -> Bits:
        """Draw as `Wires.delivered` does."""
        pair = self.wires.links.pair if at.reply else "none"
        heard = self._all if pair == "none" else self.delivered(moment, at._replace(reply=0))
        if pair == "exchange":
            return heard
        limit, uncut = self._limits[at.reply], self._uncut[at.reply]
        if limit is None and uncut is None:
            return heard
        bits = self._kept(at)
        if limit is None:
            bits[:] = 255
        elif (self.wires.links.table.burst[self.wires.rows[at.reply]] > 1).any():
            delivered = self.wires.delivered(moment, at, self.batch)
            assert delivered is not None, "something may be lost"
            bits[:] = self._packed(delivered.numpy()[self.wires.between])
        else:
            self._draw(moment, at, limit, heard, bits)
            heard = self._all
        for other in (heard, uncut):
            if other is not None and other is not self._all:
                np.bitwise_and(bits, other, out=bits)
        return bits

    def _draw(
        self, moment: Moment, at: Round, limit: tuple[NDArray[np.uint32], BoolArray], heard: Bits, bits: Bits
    ) -> None:
        """Write which messages that were heard are not lost by themselves."""
        values, certain = limit
        word = self.wires.loss_keys[at.reply].round(moment, at.code)
        arrays = self._words[at.reply], self._samples, values, heard, bits
        arrives().call(*(array.ctypes.data for array in arrays), word, len(bits), self.groups, self.stride)
        if certain.any():
            bits[certain] = 0

    def _kept(self, at: Round) -> Bits:
        """Return memory for a round, where the sweep before had that round's."""
        if (len(self._memory) + 1) * self._all.size > KEPT and at not in self._memory:
            self._memory, self._drawn = {}, {}
        return self._memory.setdefault(at, np.empty_like(self._all))

    def _packed(self, delivered: BoolArray) -> Bits:
        """Pack (links of the matrix, B); own slices arrive."""
        bits = self._all.copy()
        packed = np.packbits(delivered, axis=1, bitorder="little")
        bits[self.wires.between, : packed.shape[1]] = packed
        return bits

    def _of_edges(self, of_links: NDArray[Any]) -> NDArray[Any]:
        """Return values of links for all edges, zero for an agent's own slice."""
        of_edges: NDArray[Any] = np.zeros(self.wires.edges, dtype=of_links.dtype)
        of_edges[self.wires.between] = of_links
        return of_edges


@once
def arrives() -> Compiled:
    """Compile f(words, samples, limits, heard, bits, round, edges, groups, stride).

    A bit is set where it is in `heard` and a number is not below its limit. The numbers are those of `fates.Keys.bits`,
    of the keys `words` and the word of the round. Arrays: words and limits (edges,) and samples (groups * GROUP,)
    uint32, heard and bits (edges, stride) bytes, of which 2 a group are read and written.
    """

    def write(code: Code, arguments: list[Value]) -> None:
        b, type = code.builder, ir.IntType(32)
        vector = ir.VectorType(type, GROUP)
        words, samples, limits, heard, out, round, edges, groups, stride = arguments

        def constant(value: int, of: Value) -> Value:
            many = isinstance(of, ir.VectorType)
            return ir.Constant(of, [value] * GROUP if many else value)

        def mixed(bits: Value) -> Value:
            """As `fates._mix`."""
            for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, None)):
                bits = b.xor(bits, b.lshr(bits, constant(shift, bits.type)))
                bits = bits if factor is None else b.mul(bits, constant(factor, bits.type))
            return bits

        def entry(base: Value, index: Value, kind: Value) -> Value:
            return b.load(b.gep(base, [index], source_etype=type), typ=kind, align=4)

        def spread(value: Value) -> Value:
            one = b.insert_element(ir.Constant(vector, ir.Undefined), value, constant(0, type))
            return b.shuffle_vector(one, one, constant(0, vector))

        word = b.trunc(round, type)
        with code.loop(code.number(0), edges) as edge:
            key = spread(mixed(b.xor(entry(words, edge, type), word)))
            limit, row = spread(entry(limits, edge, type)), b.mul(edge, stride)
            with code.loop(code.number(0), groups) as group:
                first = b.mul(group, code.number(GROUP))
                number = mixed(b.xor(key, entry(samples, first, vector)))
                kept = b.bitcast(b.icmp_unsigned(">=", number, limit), ir.IntType(GROUP))
                place = b.add(row, b.mul(group, code.number(GROUP // 8)))
                before, after = (b.gep(base, [place], source_etype=ir.IntType(8)) for base in (heard, out))
                b.store(b.and_(kept, b.load(before, typ=kept.type, align=1)), after, align=1)

    return compile_function("arrives", 5, 4, write)
