"""Kernels that stand for operations of PyTorch have their bits, and stand for nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dist_hdnn.operators.tiles.elementwise import translated
from dist_hdnn.operators.tiles.machine import available

pytestmark = pytest.mark.skipif(not available(), reason="no kernels without llvmlite")
aten = torch.ops.aten
DTYPES = (torch.float32, torch.float64)


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 7, 16, 129])
@pytest.mark.parametrize(
    "function, factor",
    [(aten.copy_.default, None), (aten.mul_.Tensor, -0.3)]
    + [(each, alpha) for each in (aten.add_.Tensor, aten.sub_.Tensor) for alpha in (1.0, -0.2)],
    ids=str,
)
def test_operations_in_place(function: Any, factor: float | None, size: int, dtype: torch.dtype) -> None:
    a, b = numbers(2, size, dtype=dtype)
    expected = a.clone()
    named: dict[str, Any] = {}
    second: Any = b
    if function is aten.mul_.Tensor:
        second = torch.tensor(factor, dtype=torch.float64)
    elif factor is not None:
        named["alpha"] = factor
    function(expected, second, **named)
    found = translated(function, (a, second), named)
    assert found is not None
    kernel, given = found
    kernel.call(*(each.data_ptr() if isinstance(each, torch.Tensor) else each for each in given))
    assert torch.equal(a, expected)


def test_what_has_no_kernel_stays_an_operation() -> None:
    a, b = numbers(4, 6), numbers(4, 6)
    assert translated(aten.add_.Tensor, (a, b), {}) is not None
    for function, arguments in [
        (aten.add_.Tensor, (a, b[:, :1])),  # one column for all
        (aten.add_.Tensor, (a.t(), b.t())),  # not contiguous
        (aten.copy_.default, (a, b.double())),  # another format
        (aten.copy_.default, (a[:0], b[:0])),
        (aten.mul_.Tensor, (a, b)),  # no number
        (aten.tanh_.default, (a,)),
    ]:
        assert translated(function, arguments, {}) is None
