"""Vector instructions for the kernels: loads, broadcasts, sums and tanh."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dist_hdnn.operators.tiles.machine import Code, Value, host, ir

BITS = {32: (23, 127), 64: (52, 1023)}  # bits of the mantissa, and bias of the exponent


def lanes(element: int, batch: int) -> int:
    """Return the elements of one vector for this batch: what the host has, half of that, 4, 2 or 1.

    element: bytes of a number.
    """
    widest = host().vector_bytes // element
    return next((count for count in (widest, widest // 2, 4, 2) if 1 < count <= min(widest, batch)), 1)


class Writer:
    """Write instructions on vectors of `lanes` elements of `element` bytes into a function."""

    def __init__(self, code: Code, element: int, lanes: int) -> None:
        self.code, self.b, self.element, self.lanes = code, code.builder, element, lanes
        self.scalar = ir.FloatType() if element == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, lanes)
        self.module = code.builder.module

    def at(self, pointer: Value, index: Value) -> Value:
        """Return the address of element `index`."""
        return self.b.gep(pointer, [index], source_etype=self.scalar)

    def arrays(self, table: Value) -> list[Value]:
        """Load the seven addresses of `Segments.table`."""
        return [self.pointer(table, place) for place in range(7)]

    def pointer(self, table: Value, place: int) -> Value:
        """Load an entry of a table of addresses."""
        type = ir.PointerType()
        return self.b.load(self.b.gep(table, [self.code.number(place)], source_etype=type), typ=type)

    def bits(self, base: Value, row: Value, stride: Value, first: Value) -> Value:
        """Load a mask from a row of bits, `stride` bytes a row: bits first, first + 1, ... for the lanes.

        Three bytes behind the last bit may be read.
        """
        b, word = self.b, ir.IntType(32)
        place = b.add(b.mul(row, stride), b.lshr(first, self.code.number(3)))
        bits = b.load(b.gep(base, [place], source_etype=ir.IntType(8)), align=1, typ=word)
        bits = b.lshr(bits, b.trunc(b.and_(first, self.code.number(7)), word))
        return b.bitcast(b.trunc(bits, ir.IntType(self.lanes)), ir.VectorType(ir.IntType(1), self.lanes))

    def kept(self, mask: Value, vector: Value) -> Value:
        """Return the vector, zero where the mask is not set."""
        # frozen, so that load and mask stay two instructions: masked loads were measured three times slower on Zen 5
        frozen = ir.Instruction(self.b.block, vector.type, "freeze", [vector])
        self.b._insert(frozen)
        return self.b.select(mask, frozen, self.constant(0.0))

    def integer(self, pointer: Value, index: Value) -> Value:
        """Load an entry of an array of integers."""
        address = self.b.gep(pointer, [index], source_etype=self.code.integer)
        return self.b.load(address, typ=self.code.integer)

    def load(self, address: Value) -> Value:
        return self.b.load(address, align=self.element, typ=self.vector)

    def prefetch(self, address: Value, to_write: bool = False) -> None:
        """Ask for the cache line at the address."""
        integer = ir.IntType(32)
        # arguments: address, 0 to read or 1 to write, locality 0 .. 3, and 1 for data (0 are instructions)
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), integer, integer, integer])
        function = self.module.globals.get("llvm.prefetch.p0") or ir.Function(self.module, kind, "llvm.prefetch.p0")
        self.b.call(function, [address, *(ir.Constant(integer, value) for value in (int(to_write), 3, 1))])

    def store(self, value: Value, address: Value) -> None:
        self.b.store(value, address, align=self.element)

    def broadcast(self, address: Value) -> Value:
        """Load one number into every lane."""
        return self.spread(self.b.load(address, typ=self.scalar), self.lanes)

    def spread(self, value: Value, lanes: int) -> Value:
        """Copy a scalar into `lanes` lanes: into lane 0, then lane 0 into all."""
        one = self.b.insert_element(
            ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
        )
        return self.b.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))

    def constant(self, value: float) -> Value:
        return ir.Constant(self.vector, [value] * self.lanes)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """Return a b + c, rounded once where the host can."""
        return self.intrinsic("llvm.fmuladd", a, b, c)

    def load_first(self, address: Value, count: Value) -> Value:
        """Load the first `count` elements from here, then zeros, and read nothing behind them."""
        mask = self.first(count)
        name = f"llvm.masked.load.v{self.lanes}f{8 * self.element}.p0"
        arguments = [ir.PointerType(), mask.type, self.vector]
        function = self.module.globals.get(name) or ir.Function(
            self.module, ir.FunctionType(self.vector, arguments), name
        )
        return self.b.call(function, [address, mask, self.constant(0.0)])

    def first(self, count: Value) -> Value:
        """Return a mask of the first `count` lanes."""
        words = ir.VectorType(ir.IntType(32), self.lanes)
        here = self.spread(self.b.trunc(count, ir.IntType(32)), self.lanes)
        return self.b.icmp_signed("<", ir.Constant(words, list(range(self.lanes))), here)

    def sum_of_each(self, vectors: list[Value]) -> Value:
        """Return the sums of 4 vectors, (4,): of neighboring lanes first, then of the groups of 4 lanes."""
        first, second, third, fourth = vectors
        if self.lanes == 2:
            return self.pick(self.pairs(first, second), self.pairs(third, fourth), range(4))
        # each group of 4 lanes of `total` holds the sums of that group in first, second, third and fourth
        total = self.pairs(self.pairs(first, second), self.pairs(third, fourth))
        lanes = self.lanes
        while lanes > 4:
            lanes //= 2  # fold the upper half of the groups onto the lower
            total = self.b.fadd(*(self.pick(total, total, range(start, start + lanes)) for start in (0, lanes)))
        return total

    def pairs(self, low: Value, high: Value) -> Value:
        """Return sums of neighboring lanes. Each group of 4 lanes holds two sums of `low` and two of `high`."""
        groups = range(0, self.lanes, min(4, self.lanes))

        def every_second(start: int) -> Value:
            inside = range(start, min(4, self.lanes), 2)  # lanes of `high` count on from those of `low`
            return self.pick(low, high, [v + g + k for g in groups for v in (0, self.lanes) for k in inside])

        return self.b.fadd(every_second(0), every_second(1))

    def pick(self, low: Value, high: Value, indices: Sequence[int]) -> Value:
        """Return these elements of `low` followed by `high`."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), list(indices))
        return self.b.shuffle_vector(low, high, mask)

    def intrinsic(self, name: str, *values: Value) -> Value:
        """Call an intrinsic of LLVM on vectors of one type, such as llvm.fabs.v8f32."""
        type = values[0].type
        suffix = f"v{type.count}f{8 * self.element}"
        function_type = ir.FunctionType(type, [type] * len(values))
        function = self.module.globals.get(f"{name}.{suffix}") or ir.Function(
            self.module, function_type, f"{name}.{suffix}"
        )
        return self.b.call(function, values)

    def tanh(self, x: Value) -> Value:
        """Return t / (t + 2) with t = exp(2|x|) - 1, by 2|x| = n ln 2 + r and t = 2ⁿ (exp(r) - 1) + (2ⁿ - 1).

        exp(r) is a Taylor polynomial. The rounding of t + 2 and of the quotient is corrected, so that the error is
        below 2 units in the last place. NaN stays NaN.
        """
        b, bits = self.b, 8 * self.element
        mantissa, bias = BITS[bits]
        terms, largest = (7, 9.02) if bits == 32 else (13, 19.1)  # tanh rounds to 1 from `largest` on
        magic = 1.5 * 2.0**mantissa  # adding it leaves the nearest integer in the lowest bits
        high = _float(math.log(2.0), bits - (12 if bits == 32 else 32))  # few enough bits for n * high to be exact
        size = self.intrinsic("llvm.fabs", x)
        size = b.select(b.fcmp_ordered(">", size, self.constant(largest)), self.constant(largest), size)
        twice = b.fadd(size, size)
        # n = round(2|x| / ln 2); r = 2|x| - n ln 2, ln 2 in two parts so that r keeps its low bits
        shifted = self.multiply_add(twice, self.constant(1 / math.log(2.0)), self.constant(magic))
        n = b.fsub(shifted, self.constant(magic))
        r = self.multiply_add(n, self.constant(-high), twice)
        r = self.multiply_add(n, self.constant(high - math.log(2.0)), r)
        # p = exp(r) - 1 = r + r² (1/2! + r (1/3! + ...)), by Horner
        p = self.constant(1 / math.factorial(terms))
        for k in range(terms - 1, 1, -1):
            p = self.multiply_add(p, r, self.constant(1 / math.factorial(k)))
        p = self.multiply_add(b.fmul(p, r), r, r)
        words = ir.VectorType(ir.IntType(bits), self.lanes)
        # 2ⁿ: the integer n, in the low bits of `shifted`, moves to the exponent's place and gets its bias
        exponent = b.shl(b.bitcast(shifted, words), ir.Constant(words, [mantissa] * self.lanes))
        power = b.bitcast(b.add(exponent, ir.Constant(words, [bias << mantissa] * self.lanes)), self.vector)
        t = self.multiply_add(power, p, b.fsub(power, self.constant(1.0)))
        s = b.fadd(t, self.constant(2.0))
        value = b.fdiv(t, s)
        lost = b.fsub(t, b.fsub(s, self.constant(2.0)))  # by rounding s; 1 / s is (1 - value) / 2
        lost = b.select(b.fcmp_ordered("<", t, self.constant(2.0)), lost, self.constant(0.0))
        # what is left of t - value (t + 2), times 1 / s, corrects the quotient
        rest = self.multiply_add(b.fneg(value), lost, self.multiply_add(b.fneg(value), s, t))
        value = self.multiply_add(rest, self.multiply_add(value, self.constant(-0.5), self.constant(0.5)), value)
        return self.intrinsic("llvm.copysign", value, x)


def _float(value: float, bits: int) -> float:
    """Round a number to this many significant bits."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)
