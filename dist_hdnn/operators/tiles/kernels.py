"""The kernels: they compute one register tile of the result at a time and read slices where they lie.

    pull       out_i = epilogue(bias_i + Σ over segments of W x)    K x + b, K v, and Kᵀ z over the transposed pattern,
                                                                    alone or straight into z_i + c Kᵀ z
    gradient   W_i   = Σ over one or two pairs of rows ⊗ columns, summed over the batch, the first one c times

A segment is a run of weights of agent i that meet consecutive rows of x. A tile is a few rows times a few vectors of
the batch. Every element is one chain of fused multiply-adds in the order of the segments, so its bits depend neither on
its tile nor on threads. If the length of a vector does not divide the batch, the last vector overlaps the one before.
Masked kernels take a slice of x as zero for every sample whose bit in the row of the segment's link is not set.
Shapes: x, z, out (rows, B), rows contiguous; per agent `start` its first row, `segments` its range of segments.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

from dist_hdnn.operators.tiles.machine import Code, Compiled, Value, compile_function, host, ir, once
from dist_hdnn.operators.tiles.sums import write_sums
from dist_hdnn.operators.tiles.vectors import Writer


def tile_shape() -> tuple[int, int]:
    """Return rows and vectors of the largest tile of `pull` that the host's registers hold."""
    return (4, 3) if host().registers < 32 else (8, 3)


class _Masks:
    """The bits of links as kernels read them, see `masked.Masks`: entries of the table behind those of `Segments`."""

    def __init__(self, writer: Writer, table: Value) -> None:
        self.writer = writer
        self.link, self.first, self.second, stride = (writer.pointer(table, place) for place in range(7, 11))
        self.stride = writer.b.ptrtoint(stride, writer.code.integer)

    def of(self, bits: Value, segment: Value, place: Value) -> Value:
        """Return the mask of the samples from `place` on."""
        w = self.writer
        return w.bits(bits, w.integer(self.link, segment), self.stride, place)


class Kind(NamedTuple):
    """A variant of `pull`.

    transposed: columns of W give the rows of `out`. epilogue: "none"; "tanh" of the sum; "slope" is c times the sum
    times 1 - z²; "add" is z + c times the sum, where `out` may be z. With the last two `bias` is the address of c.
    thin: agents are so small that the lines of the next one are fetched ahead.
    """

    transposed: bool = False
    bias: bool = False
    epilogue: str = "none"
    masked: bool = False
    thin: bool = False


@once
def pull(element: int, lanes: int, kind: Kind) -> Compiled:
    """Compile f(W, x, bias, z, out, table, first, last, B), for agents order[first:last] of `operator.Segments`.

    table: the addresses of its arrays, and of masks.
    """

    def write(code: Code, arguments: list[Value]) -> None:
        _Pull(Writer(code, element, lanes), kind, arguments).write()

    name = "_".join(["pull", *(str(int(v) if isinstance(v, bool) else v) for v in (8 * element, lanes, *kind))])
    return compile_function(name, 6, 3, write, shared=(3, 4) if kind.epilogue == "add" else ())


class _Pull:
    """The body of `pull`."""

    def __init__(self, writer: Writer, kind: Kind, arguments: list[Value]) -> None:
        self.writer, self.code, self.b = writer, writer.code, writer.b
        self.transposed, self.has_bias, self.epilogue, masked, self.thin = kind
        self.W, self.x, self.bias, self.z, self.out, table, self.first, self.last, self.batch = arguments
        arrays = writer.arrays(table)
        self.order, self.start, self.segments, self.row, self.length, self.weight, self.width = arrays
        self.masks = _Masks(writer, table) if masked else None
        self.far = writer.pointer(table, 11) if self.thin else None
        self.factor = writer.broadcast(self.bias) if self.epilogue in ("slope", "add") else None
        self.in_place = self.b.icmp_unsigned(
            "==", self.b.ptrtoint(self.z, self.code.integer), self.b.ptrtoint(self.out, self.code.integer)
        )

    def write(self) -> None:
        code, b, w = self.code, self.b, self.writer
        one, lanes = code.number(1), code.number(w.lanes)
        vectors = b.sdiv(b.add(self.batch, code.number(w.lanes - 1)), lanes)  # ceil(B / lanes)
        final = b.sub(self.batch, lanes)  # the last vector begins here, so that it ends with the batch
        rows_of_tile, vectors_of_tile = tile_shape()
        with code.loop(self.first, self.last) as position:
            agent = w.integer(self.order, position)
            first = w.integer(self.start, agent)  # its rows of out are first .. first + rows - 1
            rows = b.sub(w.integer(self.start, b.add(agent, one)), first)
            segments = w.integer(self.segments, agent), w.integer(self.segments, b.add(agent, one))
            ahead = self.ahead(position) if self.thin else None

            def strip(vector: Value, count: int) -> None:
                # `count` vectors of the batch, for all rows of the agent
                wanted = [b.mul(b.add(vector, code.number(j)), lanes) for j in range(count)]
                places = [b.select(b.icmp_signed("<", place, final), place, final) for place in wanted]
                done = [b.sub(*pair) for pair in zip(wanted, places, strict=True)]  # lanes of the vector before
                self.done = [b.select(self.in_place, lanes_done, code.number(0)) for lanes_done in done]
                code.split(rows, rows_of_tile, lambda row, size: self.tile(first, row, size, places, segments, ahead))

            code.split(vectors, vectors_of_tile, strip)
            if self.epilogue == "tanh":
                with b.if_then(b.icmp_signed(">", rows, code.number(0))):
                    self.activate(b.mul(first, self.batch), b.mul(rows, self.batch))

    def activate(self, start: Value, length: Value) -> None:
        """Write tanh of an agent's rows while they are in the cache.

        start, length: of the agent's rows times batch, which lie one after the other. The last vector overlaps the one
        before, so it is read before any value changes.
        """
        b, w = self.b, self.writer
        place = w.at(self.out, b.sub(b.add(start, length), self.code.number(w.lanes)))
        last = w.tanh(w.load(place))
        whole = b.mul(b.sdiv(length, self.code.number(w.lanes)), self.code.number(w.lanes))  # elements of full vectors
        with self.code.loop(start, b.add(start, whole), w.lanes) as index:
            address = w.at(self.out, index)
            w.store(w.tanh(w.load(address)), address)
        w.store(last, place)

    def ahead(self, position: Value) -> tuple[Value, ...]:
        """Return what the next agent will touch first: its first row of `out`, and the end of its farthest slice of x.

        That slice is the one least likely to be in the cache. Then the address of weights that are new with it, and the
        distance between their rows. An agent without segments repeats its own row.
        """
        code, b, w = self.code, self.b, self.writer
        one, final = code.number(1), b.sub(self.last, code.number(1))
        following = b.add(position, one)
        agent = w.integer(self.order, b.select(b.icmp_signed("<", following, final), following, final))
        first, end = w.integer(self.start, agent), w.integer(self.segments, b.add(agent, one))
        source, weight, width = code.variable(first), code.variable(code.number(0)), code.variable(code.number(0))
        begin = w.integer(self.segments, agent)
        with b.if_then(b.icmp_signed("<", begin, end)):
            far = w.integer(self.far, agent)
            b.store(b.add(w.integer(self.row, far), w.integer(self.length, far)), source)
            new = far if self.transposed else begin  # rows of K lie side by side, of their transpose far apart
            b.store(w.integer(self.weight, new), weight)
            b.store(w.integer(self.width, new), width)
        address = w.at(self.W, code.get(weight, code.integer))
        return first, code.get(source, code.integer), address, code.get(width, code.integer)

    def tile(
        self,
        first: Value,
        row: Value,
        size: int,
        places: list[Value],
        segments: tuple[Value, Value],
        ahead: tuple[Value, ...] | None,
    ) -> None:
        """Write `size` rows from `row` on of the agent, at the vectors that begin at `places` of the batch.

        first: the agent's first row of `out`. segments: its range of segments. ahead: rows of the next agent, to
        bring to the cache.
        """
        code, b, w = self.code, self.b, self.writer
        # rows of out, and a register of sums for each row and vector: sums[t][j] is (lanes,)
        lines = [b.add(first, b.add(row, code.number(t))) for t in range(size)]
        zero = w.constant(0.0)
        initial = [w.broadcast(w.at(self.bias, line)) if self.has_bias else zero for line in lines]
        sums = [[code.variable(value) for _ in places] for value in initial]
        for t, place in itertools.product(range(size), places):  # on its way to the cache while the sums are made
            line = lines[t] if ahead is None else b.add(ahead[0], b.add(row, code.number(t)))
            where = b.add(b.mul(line, self.batch), place)
            w.prefetch(w.at(self.out, where), to_write=True)
            if self.factor is not None:
                w.prefetch(w.at(self.z, where))
            if ahead is not None:
                source = b.sub(ahead[1], code.number(size - t))
                w.prefetch(w.at(self.x, b.add(b.mul(source, self.batch), place)))
        if ahead is not None:
            for t in range(size):
                w.prefetch(w.at(ahead[2], b.mul(b.add(row, code.number(t)), ahead[3])))
        with code.loop(*segments) as s:
            width = w.integer(self.width, s)
            one = code.number(1)
            # the block lies row by row: W[weight + t * across + k * along] meets row k of x
            across, along = (one, width) if self.transposed else (width, one)
            weights = w.at(self.W, b.add(w.integer(self.weight, s), b.mul(row, across)))
            starts = [w.at(weights, b.mul(across, code.number(t))) for t in range(size)]
            source = b.mul(w.integer(self.row, s), self.batch)  # x[row, 0] of the segment
            sources = [w.at(self.x, b.add(source, place)) for place in places]
            masks = [] if self.masks is None else [self.masks.of(self.masks.first, s, place) for place in places]
            with code.loop(code.number(0), w.integer(self.length, s)) as k:
                there, here = b.mul(k, self.batch), b.mul(k, along)  # offsets in x and in W
                vectors = [w.load(w.at(pointer, there)) for pointer in sources]
                if masks:
                    vectors = [w.kept(*pair) for pair in zip(masks, vectors, strict=True)]
                for t in range(size):
                    scalar = w.broadcast(w.at(starts[t], here))
                    for vector, place in zip(vectors, sums[t], strict=True):
                        b.store(w.multiply_add(scalar, vector, code.get(place, w.vector)), place)
        for line, row_sums in zip(lines, sums, strict=True):
            for place, done, value in zip(places, self.done, row_sums, strict=True):
                where = b.add(b.mul(line, self.batch), place)
                w.store(self.finished(code.get(value, w.vector), where, done), w.at(self.out, where))

    def finished(self, value: Value, where: Value, done: Value) -> Value:
        """Apply the epilogue to a vector of sums. where: its place in `out` and z. done: lanes already written."""
        w = self.writer
        if self.epilogue == "add":  # in place, lanes of the vector before are kept: added twice they would be wrong
            before = w.load(w.at(self.z, where))
            return self.b.select(w.first(done), before, w.multiply_add(self.factor, value, before))
        if self.epilogue == "slope":
            z = w.load(w.at(self.z, where))
            slope = w.multiply_add(self.b.fneg(z), z, w.constant(1.0))  # tanh' = 1 - z²
            return self.b.fmul(self.b.fmul(value, slope), self.factor)
        return value


def gradient_shape() -> tuple[int, int]:
    """Return rows and columns of the largest tile of `gradient`: 4 columns, whose sums fill one vector."""
    return (3, 4) if host().registers < 32 else (4, 4)


@once
def gradient(element: int, lanes: int, masked: bool = False) -> Compiled:
    """Compile f(W, z, v, w, x, table, first, last, B, pairs, add, factor), with the arguments of `pull`.

    It writes the gradient c z vᵀ, of two pairs c z vᵀ + w xᵀ, to W or adds it. factor: the address of c.
    """

    def write(code: Code, arguments: list[Value]) -> None:
        _Gradient(Writer(code, element, lanes), masked, arguments).write()

    return compile_function(f"gradient_{8 * element}_{lanes}_{int(masked)}", 6, 6, write)


class _Gradient:
    """The body of `gradient`."""

    def __init__(self, writer: Writer, masked: bool, arguments: list[Value]) -> None:
        self.writer, self.code, self.b = writer, writer.code, writer.b
        self.W, self.z, self.v, self.w, self.x, table, self.first, self.last, self.batch = arguments[:9]
        self.pairs, self.add, factor = arguments[9:]
        self.factor = writer.broadcast(self.b.inttoptr(factor, ir.PointerType()))
        arrays = writer.arrays(table)
        self.order, self.start, self.segments, self.row, self.length, self.weight, self.width = arrays
        self.masks = _Masks(writer, table) if masked else None

    def write(self) -> None:
        code, b, w = self.code, self.b, self.writer
        one = code.number(1)
        largest_rows, largest_columns = gradient_shape()
        whole = b.mul(b.sdiv(self.batch, code.number(w.lanes)), code.number(w.lanes))  # in full vectors
        with code.loop(self.first, self.last) as position:
            agent = w.integer(self.order, position)
            first = w.integer(self.start, agent)
            rows = b.sub(w.integer(self.start, b.add(agent, one)), first)
            with code.loop(w.integer(self.segments, agent), w.integer(self.segments, b.add(agent, one))) as s:
                source, weight, width = (w.integer(array, s) for array in (self.row, self.weight, self.width))

                # row, column count inside the block of the segment, (rows, length) with `width` weights from row to row
                def columns(column: Value, across: int) -> None:
                    def tile(row: Value, down: int) -> None:
                        sums = self.sums(s, b.add(first, row), down, b.add(source, column), across, whole)
                        for t in range(down):
                            place = b.add(weight, b.add(b.mul(b.add(row, code.number(t)), width), column))
                            write_sums(w, sums[t], w.at(self.W, place), self.add)

                    code.split(rows, largest_rows, tile)

                code.split(w.integer(self.length, s), largest_columns, columns)

    def sums(
        self, segment: Value, row: Value, down: int, column: Value, across: int, whole: Value
    ) -> list[list[Value]]:
        """Return vectors of partial sums of a tile, [rows][columns], summed over full vectors of the batch and a rest.

        row, down: rows of z and w. column, across: rows of v and x. whole: elements of the batch in full vectors.
        """
        code, b, w = self.code, self.b, self.writer
        sums = [[code.variable(w.constant(0.0)) for _ in range(across)] for _ in range(down)]

        with code.loop(code.number(0), self.pairs) as pair:
            first = b.icmp_signed("==", pair, code.number(0))
            left, right = b.select(first, self.z, self.w), b.select(first, self.v, self.x)  # (z, v), then (w, x)
            lefts = [w.at(left, b.mul(b.add(row, code.number(t)), self.batch)) for t in range(down)]
            rights = [w.at(right, b.mul(b.add(column, code.number(t)), self.batch)) for t in range(across)]
            masks = self.masks
            bits = None if masks is None else b.select(first, masks.first, masks.second)

            def add(load: Callable[[Value], Value], place: Value) -> None:
                # each of `across` vectors is loaded once and meets `down` vectors that stay in registers
                values = [load(pointer) for pointer in lefts]
                mask = None if masks is None else masks.of(bits, segment, place)
                for c, pointer in enumerate(rights):
                    other = load(pointer) if mask is None else w.kept(mask, load(pointer))
                    for value, places in zip(values, sums, strict=True):
                        b.store(w.multiply_add(value, other, code.get(places[c], w.vector)), places[c])

            with code.loop(code.number(0), whole, w.lanes) as k:
                add(lambda pointer: w.load(w.at(pointer, k)), k)
            if w.lanes > 1:
                with b.if_then(b.icmp_signed("<", whole, self.batch)):
                    add(lambda pointer: w.load_first(w.at(pointer, whole), b.sub(self.batch, whole)), whole)
            with b.if_then(first):  # c belongs to the first pair, whose sums stand alone so far
                for place in itertools.chain(*sums):
                    b.store(b.fmul(self.factor, code.get(place, w.vector)), place)
        return [[code.get(place, w.vector) for place in places] for places in sums]
