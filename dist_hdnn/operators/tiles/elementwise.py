"""Kernels for what a sweep does between products: copies, multiples and sums of whole tensors.

A recording replays them instead of the operations of PyTorch that stand for them, with the same bits: an operation is
translated only if a trial at first use has shown that. Operations on other tensors than contiguous ones of one shape
stay what they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from dist_hdnn.operators.tiles.machine import Code, Compiled, Value, compile_function, once
from dist_hdnn.operators.tiles.vectors import Writer, lanes

aten = torch.ops.aten
SUMS = {aten.add.out: 1.0, aten.add_.Tensor: 1.0, aten.sub.out: -1.0, aten.sub_.Tensor: -1.0}
PRODUCTS = (aten.mul.out, aten.mul_.Tensor)
ODD = 37  # elements of a trial: vectors, and a rest


def translated(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Compiled, Any] | None:
    """Return a kernel and its arguments for an operation of PyTorch, (a, b, out, factor as a tensor, elements).

    None where there is none. The caller keeps the factor.
    """
    found = _operands(function, arguments, named)
    if found is None:
        return None
    kind, a, b, out, factor = found
    tensors = {id(each): each for each in (a, b, out)}.values()
    alike = all(each.is_contiguous() and each.shape == out.shape and each.dtype == out.dtype for each in tensors)
    if not alike or out.dtype not in (torch.float32, torch.float64) or out.device.type != "cpu" or not out.numel():
        return None
    if not _same_bits(function, kind, out.dtype):
        return None
    return elementwise(out.element_size(), kind), (a, b, out, torch.tensor([factor], dtype=out.dtype), out.numel())


def _operands(
    function: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[str, Tensor, Tensor, Tensor, float] | None:
    """Return the kind of an operation, a, b, out and factor, where `elementwise` has one for it."""
    a, *others = arguments
    out = named.get("out", a)
    if function is aten.copy_.default:
        return "copy", others[0], others[0], a, 1.0
    if function in SUMS and isinstance(others[0], Tensor):
        alpha = named.get("alpha", others[1] if len(others) > 1 else 1)
        return "sum", a, others[0], out, SUMS[function] * alpha
    if function in PRODUCTS:
        factor = others[0]
        if isinstance(factor, Tensor):
            if factor.ndim or factor.dtype != torch.float64:  # a number of Python comes as such a tensor
                return None
            factor = factor.item()
        return "multiple", a, a, out, factor
    return None


@cache
def _same_bits(function: Any, kind: str, dtype: torch.dtype) -> bool:
    """Try an operation and its kernel on the same numbers."""
    generator = torch.Generator().manual_seed(0)
    a, b, out = torch.randn(3, ODD, dtype=dtype, generator=generator)
    factor = 0.3 if kind == "multiple" else 1.0 if kind == "copy" else 0.7
    if kind == "copy":
        expected = b.clone()
        a = b
    elif kind == "multiple":
        expected = a * factor
    else:
        expected = torch.add(a, b, alpha=factor) if SUMS[function] > 0 else torch.sub(a, b, alpha=factor)
        factor *= SUMS[function]
    number = torch.tensor([factor], dtype=dtype)
    elementwise(a.element_size(), kind).call(*(each.data_ptr() for each in (a, b, out, number)), ODD)
    return torch.equal(out, expected)


@once
def elementwise(element: int, kind: str) -> Compiled:
    """Compile f(a, b, out, factor, n) for n numbers of `element` bytes; factor: the address of c.

    kind: "copy" of a, "multiple" c a, or "sum" a + c b, rounded once. out may be a or b.
    """
    count = lanes(element, 64)

    def write(code: Code, arguments: list[Value]) -> None:
        a, b, out, factor, n = arguments
        whole = code.builder.mul(code.builder.sdiv(n, code.number(count)), code.number(count))
        for writer, first, last in (
            (Writer(code, element, count), code.number(0), whole),
            (Writer(code, element, 1), whole, n),
        ):
            c = writer.broadcast(factor)
            with code.loop(first, last, writer.lanes) as i:
                value = writer.load(writer.at(a, i))
                if kind == "multiple":
                    value = code.builder.fmul(value, c)
                elif kind == "sum":
                    value = writer.multiply_add(c, writer.load(writer.at(b, i)), value)
                writer.store(value, writer.at(out, i))

    return compile_function(f"{kind}_{8 * element}", 4, 1, write, shared=(0, 1, 2))
