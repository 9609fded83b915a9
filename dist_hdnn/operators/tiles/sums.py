"""Sums over the batch: each of a vector register, written to weights, and of the rows of a tensor."""

from __future__ import annotations

from typing import Any

from dist_hdnn.operators.tiles.machine import Code, Compiled, Value, compile_function, ir, once
from dist_hdnn.operators.tiles.vectors import Writer

ROWS = 4  # at a time: their sums fill one vector


def write_sums(writer: Writer, sums: list[Value], address: Value, add: Value) -> None:
    """Write the sum of each of up to 4 vectors to consecutive numbers, by one tree for any number of them.

    add: 0 to write, else what lies there is added.
    """
    w, b, count = writer, writer.b, len(sums)
    if w.lanes == 1:
        for t, vector in enumerate(sums):  # vectors of one element are the sums
            _put(w, b.bitcast(vector, w.scalar), w.at(address, w.code.number(t)), w.scalar, add)
        return
    total = w.sum_of_each(sums + [w.constant(0.0)] * (ROWS - count))  # (4,)
    if count == ROWS:
        _put(w, total, address, total.type, add)
        return
    for t in range(count):
        value = b.extract_element(total, ir.Constant(ir.IntType(32), t))
        _put(w, value, w.at(address, w.code.number(t)), w.scalar, add)


def _put(writer: Writer, value: Value, address: Value, type: Any, add: Value) -> None:
    b, code = writer.b, writer.code
    zeros = ir.Constant(type, None if type == writer.scalar else [0.0] * type.count)
    before = code.variable(zeros)
    with b.if_then(b.icmp_signed("!=", add, code.number(0))):
        b.store(b.load(address, align=writer.element, typ=type), before)
    b.store(b.fadd(value, b.load(before, typ=type)), address, align=writer.element)


def add_rows(writer: Writer, base: Value, row: Value, size: int, batch: Value, address: Value, add: Value) -> None:
    """Write Σ over the batch of rows row .. row + size - 1 of `base`, up to 4 at a time. add: see `write_sums`."""
    w, b, code, lanes = writer, writer.b, writer.code, writer.lanes
    whole = b.mul(b.sdiv(batch, code.number(lanes)), code.number(lanes))  # in full vectors
    for top in range(0, size, ROWS):
        places = [b.mul(b.add(row, code.number(t)), batch) for t in range(top, min(top + ROWS, size))]
        rows = [w.at(base, place) for place in places]
        sums = [code.variable(w.constant(0.0)) for _ in rows]

        def add_vector(values: list[Value], sums: list[Value] = sums) -> None:
            for value, place in zip(values, sums, strict=True):
                b.store(b.fadd(code.get(place, w.vector), value), place)

        with code.loop(code.number(0), whole, lanes) as k:
            add_vector([w.load(w.at(pointer, k)) for pointer in rows])
        if lanes > 1:
            with b.if_then(b.icmp_signed("<", whole, batch)):
                add_vector([w.load_first(w.at(pointer, whole), b.sub(batch, whole)) for pointer in rows])
        values = [code.get(place, w.vector) for place in sums]
        write_sums(w, values, w.at(address, code.number(top)), add)


@once
def row_sums(element: int, lanes: int) -> Compiled:
    """Compile f(w, out, -, -, -, table, first, last, B, add), for agents order[first:last] of `operator.Segments`.

    It writes Σ over the batch of every row of w, (rows, B), to out, (rows,), or adds it. A row's bits do not depend on
    the rows beside it.
    """

    def write(code: Code, arguments: list[Value]) -> None:
        base, out, *_, table, first, last, batch, add = arguments
        b, w = code.builder, Writer(code, element, lanes)
        order, start, *_ = w.arrays(table)
        with code.loop(first, last) as position:
            agent = w.integer(order, position)
            begin, end = w.integer(start, agent), w.integer(start, b.add(agent, code.number(1)))

            def tile(row: Value, size: int, begin: Value = begin) -> None:
                top = b.add(begin, row)
                add_rows(w, base, top, size, batch, w.at(out, top), add)

            code.split(b.sub(end, begin), ROWS, tile)

    return compile_function(f"row_sums_{8 * element}_{lanes}", 6, 4, write, shared=(1, 2, 3, 4))
