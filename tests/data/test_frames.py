"""Data frames and arrays with masks: gaps stay gaps, times stay times, columns and rows are what their names say."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dist_hdnn.data import Preparation, from_arrays, read_dataset
from dist_hdnn.data.readers.frames import plain
from dist_hdnn.data.readers.readings import readings

LABELS = [0, 1] * 3
ARROW = pytest.importorskip("pyarrow")
PARQUET = pytest.importorskip("pyarrow.parquet")


class Frame:
    """A frame as polars has them: columns by name, no options of to_numpy, a query that runs by collect."""

    def __init__(self, **columns: Any) -> None:
        self.held = {name: np.array(column) for name, column in columns.items()}

    @property
    def columns(self) -> list[str]:
        return list(self.held)

    def __getitem__(self, name: str) -> Any:
        return self.held[name]

    def to_numpy(self) -> Any:
        return np.stack(list(self.held.values()), axis=1)


class Query:
    """A query of polars that has yet to run."""

    @property
    def columns(self) -> list[str]:
        raise AssertionError("asked before it has run")

    def collect(self) -> Frame:
        return Frame(a=np.arange(6.0), b=np.arange(6.0) * 2)


def test_masked_values_are_gaps_and_never_the_numbers_below_the_mask() -> None:
    x = np.ma.masked_equal(np.array([[1, -9999], [2, 3], [3, 5], [4, 7], [5, 9], [6, 11]]), -9999)
    with pytest.raises(ValueError, match="got nan at row 0, column 'x2'.*data.missing to fill gaps"):
        from_arrays(x, LABELS, split="last")
    data = from_arrays(x, LABELS, split="last", missing="mean")
    assert data.feature_names == ("x1", "x2", "x2 missing") and data.preparation.fills == (2.0, 4.0)
    with pytest.raises(ValueError, match="expected integer labels, got nan at row 1"):
        from_arrays(np.ones((6, 1)), np.ma.array(LABELS, mask=[0, 1, 0, 0, 0, 0]), split="last")
    whole = np.ma.array(np.ones((6, 1), dtype=np.uint8))
    assert plain(whole).dtype == np.uint8


def test_masked_readings_are_gaps() -> None:
    x, preparation = np.ma.array([[1.0], [2.0]], mask=[[1], [0]]), Preparation(("a",), fill="zero")
    assert np.isnan(next(readings(x, preparation, (), 10, "predict")).x).tolist() == [[True], [False]]


@pytest.mark.parametrize(
    "x",
    [Frame(a=np.arange(6.0), b=np.arange(6) * 2), ARROW.table({"a": np.arange(6.0), "b": range(0, 12, 2)}), Query()],
)
def test_columns_of_frames_keep_their_names(x: Any) -> None:
    data = from_arrays(x, LABELS, split="last")
    assert data.feature_names == ("a", "b") and data.train_x.tolist() == [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]


def test_nulls_of_frames_are_gaps_whatever_their_column_holds() -> None:
    x = ARROW.table({"a": [1, None] * 3, "on": [True, False, None] * 2, "b": [0.5, 1.5, None] * 2})
    data = from_arrays(x, LABELS, split="last", missing="mean")
    assert data.train_x.tolist() == [[1, 1, 0.5, 0, 0, 0], [1, 0, 1.5, 1, 0, 0], [1, 0.5, 1, 0, 1, 1]]


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="expected columns of different names, got 'a' twice; rename one of them"):
        from_arrays(np.ones((6, 2)), LABELS, split="last", feature_names=["a", "a"])


def test_rows_of_x_and_y_that_pandas_would_pair_otherwise_are_refused() -> None:
    def indexed(values: Any, rows: list[int]) -> Any:
        index = type("Index", (list,), {"equals": lambda self, other: list(self) == list(other)})(rows)
        return SimpleNamespace(
            index=index, __array__=None, dtype=np.dtype(float), to_numpy=lambda **_: np.array(values)
        )

    x = indexed(np.ones((6, 1)), [0, 1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="expected x and y with the same index, got the same rows in another order"):
        from_arrays(x, indexed(LABELS, [5, 4, 3, 2, 1, 0]), split="last")


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_times_in_parquet_are_no_numbers(unit: str, tmp_path) -> None:
    times = np.arange(6).astype(f"datetime64[{unit}]")
    table = {"when": times, "a": np.arange(6.0), "label": LABELS}
    PARQUET.write_table(ARROW.table(table), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="expected a number, got '1970-01-01T00:00:00.*' in row 0, column 'when'"):
        read_dataset(tmp_path / "t.parquet", split="last")
    with pytest.raises(ValueError, match="expected real numbers in the targets"):
        read_dataset(tmp_path / "t.parquet", split="last", target="when", regression=True)
    PARQUET.write_table(ARROW.table(table | {"when": times - times[0]}), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match="expected a number, got '0 .*seconds' in row 0, column 'when'"):
        read_dataset(tmp_path / "d.parquet", split="last")


def test_a_parquet_file_that_trains_is_read_again(tmp_path) -> None:
    from decimal import Decimal

    columns = {"on": [True, None] * 3, "price": [Decimal("1.50")] * 6, "text": ["2", "3"] * 3}
    PARQUET.write_table(ARROW.table(columns | {"label": LABELS}), tmp_path / "t.parquet")
    data = read_dataset(tmp_path / "t.parquet", split="last", missing="zero", indicator=False)
    found = next(readings(tmp_path / "t.parquet", data.preparation, (), 10, "predict")).x
    assert (
        data.preparation.points(found)[:3].tolist() == data.train_x.tolist() == [[1, 1.5, 2], [0, 1.5, 3], [1, 1.5, 2]]
    )


def test_times_that_are_passed_through_stay_times() -> None:
    frame = Frame(a=[1.0], when=np.array(["2026-01-31T12:00"], dtype="datetime64[ns]"))
    for source in (frame, ARROW.table({"a": [1.0], "when": frame["when"].astype("datetime64[us]")})):
        kept = next(readings(source, Preparation(("a",)), ("when",), 10, "predict")).kept
        assert str(kept["when"][0]) in ("2026-01-31 12:00:00", "2026-01-31T12:00:00.000000000")


SERIES = "t,a,label\n2026-03-29 01:30,1,0\n2026-03-29 02:30,2,1\n2026-03-29 03:00,3,0\n2026-03-29 03:30,4,1\n"


def test_dates_without_a_zone_do_not_depend_on_that_of_the_machine(tmp_path, monkeypatch) -> None:
    import time

    (tmp_path / "t.csv").write_text(SERIES)
    monkeypatch.setenv("TZ", "Europe/Berlin")  # where 02:30 was skipped on that day
    time.tzset()
    try:
        assert read_dataset(tmp_path / "t.csv", time="t").train_x.tolist() == [[1.0], [2.0]]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_dates_with_and_without_a_zone_cannot_be_compared(tmp_path) -> None:
    (tmp_path / "t.csv").write_text(SERIES.replace("02:30", "02:30+00:00"))
    with pytest.raises(ValueError, match="expected all dates with a time zone, or none, got '2026-03-29 02:30.00:00'"):
        read_dataset(tmp_path / "t.csv", time="t")


def test_rows_that_stand_on_both_sides_of_the_split_are_said() -> None:
    x = np.random.default_rng(0).standard_normal((60, 2))
    y = (x[:, 0] > 0).astype(int)
    with pytest.warns(UserWarning, match=r"of 60 samples of the test part are copies of training samples.*drop"):
        from_arrays(np.concatenate([x, x]), np.concatenate([y, y]), split="random")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_arrays(x, y, split="random")
        from_arrays(
            np.concatenate([x, x]), np.concatenate([y, 1 - y]), split="last"
        )  # the same readings, other answers
