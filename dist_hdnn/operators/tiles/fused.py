"""Fused kernels for thin agents of one size: rows, gradients and columns in one loop over the agents.

    forward    z_i = tanh(b_i + Σ K x),                     then new_j = old_j + c Kᵀ z
    adjoint    w_i = s (Σ K v) (1 - z_i²), δb_i += Σ w_i, δK_i += s z_i vᵀ + w_i xᵀ, then δx_j += c Kᵀ w

for every column agent j that has just become ready, see `readiness`. Thin agents are bound by the latency of memory, so
z_i and w_i are used again while they are in the cache, and lines of later agents are fetched a few at a time.
Every element is the chain of multiply-adds of `kernels`, so it has the same bits; so have the gradients.
Shapes: x, v, z, old, new (rows, B), rows contiguous; n rows for every agent, known when the kernel is compiled.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

from dist_hdnn.operators.tiles.machine import Code, Compiled, Value, compile_function, ir, once
from dist_hdnn.operators.tiles.readiness import AHEAD
from dist_hdnn.operators.tiles.sums import add_rows, write_sums
from dist_hdnn.operators.tiles.vectors import Writer

TABLE = 14  # addresses of the arrays in `Readiness.table`
CHAINS = 8  # sums at work at a time: 2 multiply-adds a cycle of latency 4, and at most 16 lines fetched in a row
TILE = 4  # rows and columns of a tile of the gradient


@once
def fused_forward(element: int, lanes: int, size: int) -> Compiled:
    """Compile f(W, x, bias, z, old, table, first, last, B, new, c) for agents of `size` rows at first .. last.

    new, c: addresses; new may be old.
    """

    def write(code: Code, arguments: list[Value]) -> None:
        W, x, bias, z, old, table, first, last, batch, new, factor = arguments
        fused = _Fused(Writer(code, element, lanes), size, W, batch, table)
        w, new = fused.writer, fused.pointer(new)
        c = w.broadcast(fused.pointer(factor))
        with code.loop(first, last) as position:
            agent = fused.agent(position)
            fetched = [(x, fused.farthest(position), False), (z, fused.row_ahead(position, last), True)]
            fused.rows(x, agent, (z, fused.row_of(agent)), lambda t, value, place: w.tanh(value), fetched, bias)
            fused.columns(position, z, (old, new), c, [(old, False), (new, True)])

    return compile_function(f"fused_forward_{8 * element}_{lanes}_{size}", 6, 5, write, shared=(4,))


@once
def fused_adjoint(element: int, lanes: int, size: int) -> Compiled:
    """Compile f(W, v, x, z, dx, table, first, last, B, w, dK, db, factors, add), see `fused_forward`.

    w: memory for rows. factors: the address of s, c. add: 1 if dK, 2 if db holds contributions to add to.
    """

    def write(code: Code, arguments: list[Value]) -> None:
        W, v, x, z, dx, table, first, last, batch, w_memory, dK, db, factors, add = arguments
        fused = _Fused(Writer(code, element, lanes), size, W, batch, table)
        w, b = fused.writer, code.builder
        w_memory, dK, db, factors = (fused.pointer(value) for value in (w_memory, dK, db, factors))
        scale, c = (w.broadcast(w.at(factors, code.number(i))) for i in range(2))
        to_K, to_b = b.and_(add, code.number(1)), b.and_(add, code.number(2))

        with code.loop(first, last) as position:
            agent = fused.agent(position)
            row, slot, farthest = fused.row_of(agent), w.integer(fused.slots, agent), fused.farthest(position)

            def sloped(t: int, value: Value, place: Value, row: Value = row) -> Value:
                of_z = w.load(fused.place(z, b.add(row, code.number(t)), place))
                slope = w.multiply_add(b.fneg(of_z), of_z, w.constant(1.0))  # tanh' = 1 - z²
                return b.fmul(b.fmul(value, slope), scale)

            fetched = [(v, farthest, False), (z, fused.row_ahead(position, last), False)]
            fused.rows(v, agent, (w_memory, slot), sloped, fetched)
            add_rows(w, w_memory, slot, size, batch, w.at(db, row), to_b)
            fused.gradient(agent, [(z, row, v), (w_memory, slot, x)], scale, dK, to_K)
            fused.columns(position, w_memory, (dx, dx), c, [(dx, True)], (x, farthest))

    return compile_function(f"fused_adjoint_{8 * element}_{lanes}_{size}", 6, 8, write)


class _Fused:
    """The parts of both kernels."""

    def __init__(self, writer: Writer, size: int, W: Value, batch: Value, table: Value) -> None:
        self.writer, self.code, self.b = writer, writer.code, writer.b
        self.size, self.W, self.batch = size, W, batch
        arrays = [writer.pointer(table, place) for place in range(TABLE)]
        self.order, self.segments, self.row, self.length, self.weight, self.width, *arrays = arrays
        self.column_segments, self.column_row, self.column_weight, self.column_width, *arrays = arrays
        self.ready, self.column, self.far, self.slots = arrays
        b, code, lanes = self.b, self.code, writer.lanes
        self.vectors = b.sdiv(b.add(batch, code.number(lanes - 1)), code.number(lanes))  # ceil(B / lanes)
        self.final = b.sub(batch, code.number(lanes))  # where the last vector begins
        self.strip = 4 if size <= 2 else 2 if size <= 4 else 1

    def pointer(self, value: Value) -> Value:
        return self.b.inttoptr(value, ir.PointerType())

    def agent(self, position: Value) -> Value:
        return self.writer.integer(self.order, position)

    def farthest(self, position: Value) -> Value:
        """Return the highest slice of x that the agent AHEAD of a position reads, which is likely to be far away."""
        return self.writer.integer(self.far, position)

    def row_of(self, agent: Value) -> Value:
        """Return the first row of an agent."""
        return self.b.mul(agent, self.number(self.size))

    def row_ahead(self, position: Value, last: Value) -> Value:
        """Return the first row of the agent AHEAD of a position, or of the last one."""
        ahead = self.least(self.b.add(position, self.number(AHEAD)), self.b.sub(last, self.number(1)))
        return self.row_of(self.agent(ahead))

    def number(self, value: int) -> Value:
        return self.code.number(value)

    def least(self, one: Value, other: Value) -> Value:
        return self.b.select(self.b.icmp_signed("<", one, other), one, other)

    def place(self, base: Value, row: Value, where: Value) -> Value:
        """Return the address of row and place in the batch."""
        return self.writer.at(base, self.b.add(self.b.mul(row, self.batch), where))

    def strips(self, body: Callable[[list[Value], list[Value]], None]) -> None:
        """Write a loop of body(places, done) over strips of the batch: where vectors begin, and their lanes done."""
        b, lanes = self.b, self.number(self.writer.lanes)

        def strip(vector: Value, count: int) -> None:
            wanted = [b.mul(b.add(vector, self.number(j)), lanes) for j in range(count)]
            places = [self.least(place, self.final) for place in wanted]
            body(places, [b.sub(*pair) for pair in zip(wanted, places, strict=True)])

        self.code.split(self.vectors, self.strip, strip)

    def fetch(self, base: Value, row: Value, places: list[Value], to_write: bool = False) -> None:
        """Ask for the lines of n rows at these places."""
        for t, place in itertools.product(range(self.size), places):
            self.writer.prefetch(self.place(base, self.b.add(row, self.number(t)), place), to_write)

    def block(self, sums: list[list[Value]], weights: Value, strides: tuple[Value, Value], x: list[Value]) -> None:
        """Add a block times n rows to sums[row][vector].

        strides: distances of weights of neighboring rows, and of those that meet neighboring rows of x. x: addresses of
        its first row.
        """
        b, w = self.b, self.writer
        across, along = strides
        for k in range(self.size):
            there, here = b.mul(self.batch, self.number(k)), b.mul(along, self.number(k))
            vectors = [w.load(w.at(pointer, there)) for pointer in x]
            for t, places in enumerate(sums):
                scalar = w.broadcast(w.at(weights, b.add(here, b.mul(across, self.number(t)))))
                for vector, place in zip(vectors, places, strict=True):
                    b.store(w.multiply_add(scalar, vector, self.code.get(place, w.vector)), place)

    def blocks(self, agent: Value, body: Callable[[Value, Value, Value], None]) -> None:
        """Write a loop of body(row of x, first weight, width) over the blocks of an agent's rows."""
        b, w, one = self.b, self.writer, self.number(1)
        with self.code.loop(w.integer(self.segments, agent), w.integer(self.segments, b.add(agent, one))) as s:
            row, weight, width = (w.integer(array, s) for array in (self.row, self.weight, self.width))
            with self.code.loop(self.number(0), w.integer(self.length, s), self.size) as k:
                body(b.add(row, k), b.add(weight, k), width)

    def rows(
        self,
        x: Value,
        agent: Value,
        to: tuple[Value, Value],
        finished: Callable[[int, Value, Value], Value],
        fetched: list[tuple[Value, Value, bool]],
        bias: Value | None = None,
    ) -> None:
        """Write finished(t, bias + Σ K x, place) for the rows t of an agent.

        to: tensor and first row there. fetched: (tensor, row, whether to write), n rows of each to bring to the cache.
        """
        b, w, code, (out, row) = self.b, self.writer, self.code, to
        initial = [w.constant(0.0)] * self.size
        if bias is not None:
            of_bias = w.at(bias, self.row_of(agent))
            initial = [w.broadcast(w.at(of_bias, self.number(t))) for t in range(self.size)]

        def strip(places: list[Value], done: list[Value]) -> None:
            for base, first, to_write in fetched:
                self.fetch(base, first, places, to_write)
            sums = [[code.variable(value) for _ in places] for value in initial]

            def block(source: Value, weight: Value, width: Value) -> None:
                pointers = [self.place(x, source, place) for place in places]
                self.block(sums, w.at(self.W, weight), (width, self.number(1)), pointers)

            self.blocks(agent, block)
            for t, line in enumerate(sums):
                for place, value in zip(places, line, strict=True):
                    where = self.place(out, b.add(row, self.number(t)), place)
                    w.store(finished(t, code.get(value, w.vector), place), where)

        self.strips(strip)

    def columns(
        self,
        position: Value,
        z: Value,
        states: tuple[Value, Value],
        factor: Value,
        own: list[tuple[Value, bool]],
        other: tuple[Value, Value] | None = None,
    ) -> None:
        """Write new = old + c Kᵀ z for the columns that are ready after a position. states: old, new.

        own: tensors of which rows of a later column are brought to the cache, and whether to write. other: n rows more.
        """
        b, w, code, one, (old, new) = self.b, self.writer, self.code, self.number(1), states
        in_place = b.icmp_unsigned("==", b.ptrtoint(old, code.integer), b.ptrtoint(new, code.integer))
        end = w.integer(self.ready, b.add(position, one))
        with code.loop(w.integer(self.ready, position), end) as entry:
            column = w.integer(self.column, entry)
            row = self.row_of(column)
            ahead = b.add(row, self.number(AHEAD * self.size))

            def strip(places: list[Value], done: list[Value]) -> None:
                for base, to_write in own:
                    self.fetch(base, ahead, places, to_write)
                if other is not None:
                    self.fetch(*other, places)
                sums = [[code.variable(w.constant(0.0)) for _ in places] for _ in range(self.size)]
                segments = w.integer(self.column_segments, column), w.integer(self.column_segments, b.add(column, one))
                with code.loop(*segments) as s:
                    weights = w.at(self.W, w.integer(self.column_weight, s))
                    source = w.integer(self.column_row, s)
                    pointers = [self.place(z, source, place) for place in places]
                    self.block(sums, weights, (one, w.integer(self.column_width, s)), pointers)
                for t, line in enumerate(sums):
                    for place, lanes_done, value in zip(places, done, line, strict=True):
                        here = b.add(b.mul(b.add(row, self.number(t)), self.batch), place)
                        before = w.load(w.at(old, here))
                        after = w.multiply_add(factor, code.get(value, w.vector), before)
                        kept = b.select(in_place, lanes_done, self.number(0))
                        w.store(b.select(w.first(kept), before, after), w.at(new, here))

            self.strips(strip)

    def gradient(
        self, agent: Value, pairs: list[tuple[Value, Value, Value]], scale: Value, out: Value, add: Value
    ) -> None:
        """Write Σ rows ⊗ columns over the batch of pairs (rows, first row, columns), the first one `scale` times."""
        b, w = self.b, self.writer

        def block(source: Value, weight: Value, width: Value) -> None:
            cuts = [(start, min(TILE, self.size - start)) for start in range(0, self.size, TILE)]
            for (top, down), (left, across) in itertools.product(cuts, cuts):
                sums = self.tile(pairs, source, (top, down), (left, across), scale)
                for t, line in enumerate(sums):
                    place = b.add(weight, b.add(b.mul(self.number(top + t), width), self.number(left)))
                    write_sums(w, line, w.at(out, place), add)

        self.blocks(agent, block)

    def tile(
        self,
        pairs: list[tuple[Value, Value, Value]],
        source: Value,
        rows: tuple[int, int],
        columns: tuple[int, int],
        scale: Value,
    ) -> list[list[Value]]:
        """Return vectors of partial sums, [rows][columns]. rows, columns: the first one in the block and how many."""
        b, w, code, batch = self.b, self.writer, self.code, self.batch
        (top, down), (left, across) = rows, columns
        sums = [[code.variable(w.constant(0.0)) for _ in range(across)] for _ in range(down)]
        whole = b.mul(b.sdiv(batch, self.number(w.lanes)), self.number(w.lanes))  # in full vectors
        for number, (left_base, row, right_base) in enumerate(pairs):
            zero = self.number(0)
            lefts = [self.place(left_base, b.add(row, self.number(top + t)), zero) for t in range(down)]
            rights = [self.place(right_base, b.add(source, self.number(left + t)), zero) for t in range(across)]

            def load(k: Value, pointer: Value) -> Value:
                return w.load(w.at(pointer, k))

            def add(load: Callable[[Value], Value], lefts: list[Value] = lefts, rights: list[Value] = rights) -> None:
                values = [load(pointer) for pointer in lefts]
                for c, pointer in enumerate(rights):
                    other = load(pointer)
                    for value, places in zip(values, sums, strict=True):
                        b.store(w.multiply_add(value, other, code.get(places[c], w.vector)), places[c])

            with code.loop(zero, whole, w.lanes) as k:
                add(functools.partial(load, k))
            if w.lanes > 1:
                with b.if_then(b.icmp_signed("<", whole, batch)):
                    add(lambda pointer: w.load_first(w.at(pointer, whole), b.sub(batch, whole)))
            if number == 0:  # the factor belongs to the first pair, whose sums stand alone so far
                for place in itertools.chain(*sums):
                    b.store(b.fmul(scale, code.get(place, w.vector)), place)
        return [[code.get(place, w.vector) for place in places] for places in sums]
