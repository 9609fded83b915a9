"""Plain arrays from whatever holds numbers: arrays, masked arrays, tensors, data frames of pandas, polars and pyarrow.

A gap becomes NaN, whichever sign its library has for it (a mask, None, NA, null).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

NUMERIC = ("int", "uint", "float", "bool", "double", "decimal", "halffloat")  # how types of pandas start
NUMBERS = (bool, int, float, Decimal, np.bool_, np.number)


def is_frame(values: Any) -> bool:
    """Return whether something is a table whose columns have names."""
    return hasattr(values, "columns")


def collected(values: Any) -> Any:
    """Return the result of a lazy query, and anything else as it is."""
    return values.collect() if hasattr(type(values), "columns") and hasattr(values, "collect") else values


def frame_columns(frame: Any) -> list[Any]:
    """Return the names of a frame's columns, of pandas any objects, of pyarrow and polars text."""
    return list(getattr(frame, "column_names", frame.columns))


def column_cells(column: Any) -> list[Any]:
    """Return the cells of a column as objects of Python, times as times."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "mM":
        return [str(cell) for cell in column]
    for way in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, way):
            cells: list[Any] = getattr(column, way)()
            return cells
    return list(column)


def plain(values: Any) -> npt.NDArray[Any]:
    """Return an array of numbers with NaN in gaps, or of objects where some are no numbers."""
    values = collected(values)
    if is_frame(values):
        names = frame_columns(values)
        columns = [plain(values[name]) for name in names] if len(set(names)) == len(names) else []
        if columns and all(column.ndim == 1 and column.dtype.kind in "biuf" for column in columns):
            return np.stack(columns, axis=1)
        return np.asarray(values)
    if hasattr(values, "detach"):  # a tensor: its values, without the graph behind them
        values = values.detach().cpu().to_dense()
        values = values.float() if values.dtype.is_floating_point and values.dtype.itemsize < 4 else values
        return np.asarray(values.numpy())
    if isinstance(values, np.ma.MaskedArray):
        array: npt.NDArray[Any] = np.array(values.data)
        if array.dtype.kind in "biuf" and np.ma.is_masked(values):
            array = np.where(np.ma.getmaskarray(values), np.nan, array.astype(np.float64))
        return array
    if hasattr(values, "iloc") and str(values.dtype).lower().startswith(NUMERIC):  # pandas, of its own types too
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    try:
        return _unboxed(np.asarray(values))
    except ValueError:  # lists in which rows differ
        raise ValueError("expected an array of numbers, got rows of different lengths; give all as many") from None


def _unboxed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return objects that are numbers and at least one None as float64, and any other array as it is."""
    if array.dtype.kind != "O":
        return array
    cells: Sequence[Any] = array.ravel().tolist()
    if None not in cells or not all(cell is None or isinstance(cell, NUMBERS) for cell in cells):
        return array
    return np.array([np.nan if cell is None else float(cell) for cell in cells]).reshape(array.shape)
