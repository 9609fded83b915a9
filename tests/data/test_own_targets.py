"""Targets of each agent's own in tables, long tables, arrays and generated tasks; and what is refused, in one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from dist_hdnn.config import Config
from dist_hdnn.config.checks import validate
from dist_hdnn.data import Cut, barbell, from_arrays, read_dataset, ring_transfer, standardised
from dist_hdnn.data.readers.readings import points

LONG = """when,station,flow,leak
0,a,1.0,no
0,b,2.0,yes
1,a,1.5,no
2,a,1.7,yes
2,b,2.7,no
3,b,,yes
3,a,1.9,
4,a,2.0,no
4,b,2.5,no
"""


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_columns_are_answered_by_their_agents(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * 2},{i / 10},{'' if i == 1 else i / 5}\n" for i in range(8))
    file = written(tmp_path, "x1,x2,ta,tb\n" + rows)
    data = read_dataset(file, regression=True, split="last", test_fraction=0.25, targets={"ta": "a", "tb": "b"})
    assert data.preparation.answering == ("a", "b")
    assert data.feature_names == ("x1", "x2")
    assert data.train_y.shape == (6, 2, 1)
    assert math.isnan(data.train_y[1, 1, 0])
    assert data.outputs == 1
    scaled = standardised(data)
    np.testing.assert_allclose(np.nanmean(scaled.train_y, axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scaled.preparation.answers(scaled.train_y), data.train_y)


def test_several_targets_of_an_agent_stand_together(tmp_path: Path) -> None:
    file = written(tmp_path, "x,u,v,w,z\n" + "".join(f"{i},{i}1,{i}2,{i}3,{i}4\n" for i in range(4)))
    targets = {"u": 0, "v": 1, "w": 0, "z": 1}
    data = read_dataset(file, regression=True, split="last", targets=targets)
    assert list(data.preparation.targets) == ["u", "w", "v", "z"]
    assert data.train_y[1].tolist() == [[11.0, 13.0], [12.0, 14.0]]


def test_a_forecast_sees_the_column_that_it_answers(tmp_path: Path) -> None:
    file = written(tmp_path, "t,a,b\n" + "".join(f"{i},{i},{-i}\n" for i in range(20)))
    options: dict[str, Any] = {"time": "t", "window": 3, "ahead": 2, "targets": {"a": "a", "b": "b"}}
    data = read_dataset(file, regression=True, test_fraction=0.4, **options)
    assert data.feature_names == ("a[t-2]", "a[t-1]", "a[t]", "b[t-2]", "b[t-1]", "b[t]")
    assert data.train_x[0].tolist() == [0, 1, 2, 0, -1, -2]
    assert data.train_y[0, :, 0].tolist() == [4, -4]
    assert data.test_x[0].tolist() == [12, 13, 14, -12, -13, -14]  # nothing reaches over the cut
    assert len(data.train_x) == 12 - 2 - 2


def test_a_long_table_is_a_row_per_time(tmp_path: Path) -> None:
    file = written(tmp_path, LONG)
    options: dict[str, Any] = {"time": "when", "agent": "station", "missing": "mean", "indicator": False}
    data = read_dataset(file, target="leak", test_fraction=0.2, **options)
    assert data.class_names == ("no", "yes")
    assert data.preparation.answering == ("a", "b")
    assert data.preparation.observers == {"a.flow": "a", "b.flow": "b"}
    assert data.train_y.tolist() == [[0, 1], [0, -1], [1, 0], [-1, 1]]
    again = next(points(file, data.preparation, (), 100, "predict"))
    np.testing.assert_array_equal(again.x[:4], data.train_x)


def test_rows_out_of_order_are_sorted_with_a_notice(tmp_path: Path) -> None:
    lines = LONG.splitlines()
    file = written(tmp_path, "\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    options: dict[str, Any] = {"time": "when", "agent": "station", "missing": "mean", "indicator": False}
    with pytest.warns(UserWarning, match="rows are sorted by 'when'"):
        data = read_dataset(file, target="leak", test_fraction=0.2, **options)
    assert data.train_y.tolist() == [[0, 1], [0, -1], [1, 0], [-1, 1]]


def test_a_wide_table_out_of_order_is_sorted_with_a_notice_too(tmp_path: Path) -> None:
    rows = [f"{i},{i},{-i}\n" for i in range(12)]
    options: dict[str, Any] = {"time": "t", "window": 2, "ahead": 1, "targets": {"a": "a", "b": "b"}}
    data = read_dataset(written(tmp_path, "t,a,b\n" + "".join(rows)), regression=True, **options)
    with pytest.warns(UserWarning, match="rows are sorted by 't'"):
        again = read_dataset(written(tmp_path, "t,a,b\n" + "".join(rows[::-1])), regression=True, **options)
    np.testing.assert_array_equal(again.train_x, data.train_x)
    np.testing.assert_array_equal(again.test_y, data.test_y)
    with pytest.raises(ValueError, match="got steps of 1 and 2; resample all agents"):
        read_dataset(written(tmp_path, "t,a,b\n" + "".join(rows[:5] + rows[6:])), regression=True, **options)


def test_arrays_frames_and_masks() -> None:
    x = np.random.default_rng(0).random((10, 3, 2))
    y = np.ma.masked_less(x[:, :, 0] + x[:, ::-1, 1], 0.5)
    data = from_arrays(x, y, regression=True, split="last", own=True)
    assert data.preparation.observers["1.0"] == 1
    assert data.feature_names == ("0.0", "0.1", "1.0", "1.1", "2.0", "2.1")
    assert np.isnan(data.train_y[..., 0]).tolist() == np.ma.getmaskarray(y)[:5].tolist()
    frame = pandas.DataFrame({"north": [0, 1, 0, 1], "south": [1.0, 0.0, math.nan, 1.0]})
    data = from_arrays(np.eye(4), frame, split="last", own=True)
    assert data.preparation.answering == ("north", "south")
    assert data.test_y.tolist() == [[0, -1], [1, 1]]


def test_features_of_agents_keep_their_names(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((10, 2, 2)), np.ones((10, 2))
    options: dict[str, Any] = {"regression": True, "split": "last", "own": True}
    of_each = ("0.flow", "0.level", "1.flow", "1.level")
    data = from_arrays(x, y, feature_names=["flow", "level"], **options)
    assert data.feature_names == of_each
    assert data.preparation.observers == {"0.flow": 0, "0.level": 0, "1.flow": 1, "1.level": 1}
    assert from_arrays(x, y, feature_names=list("abcd"), **options).feature_names == tuple("abcd")
    np.savez(tmp_path / "a.npz", x=x, y=y, feature_names=["flow", "level"])
    assert read_dataset(tmp_path / "a.npz", **options).feature_names == of_each
    with pytest.raises(ValueError, match="expected 2 feature names, one for each feature of an agent, or 4, .* got 3"):
        from_arrays(x, y, feature_names=list("abc"), **options)
    np.savez(tmp_path / "b.npz", x=x, y=y, feature_names=[1, 2])
    with pytest.raises(ValueError, match="expected feature_names as one row of texts, got int64"):
        read_dataset(tmp_path / "b.npz", **options)


def test_the_barbell_is_as_published() -> None:
    data = barbell(20, 20_000, Cut("random", 0.5))
    x, y = data.train_x, data.train_y[..., 0]
    assert x[:, :10].mean() == pytest.approx(-math.sqrt(30), abs=0.05)
    assert x[:, 10:].std(axis=0).mean() == pytest.approx(math.sqrt(10), rel=0.02)
    assert float(x[:, :10].max()) <= 0 <= float(x[:, 10:].min())
    np.testing.assert_allclose(y[:, :10], np.repeat(x[:, 10:].mean(axis=1)[:, None], 10, axis=1))
    np.testing.assert_allclose(y[:, 10:], np.repeat(x[:, :10].mean(axis=1)[:, None], 10, axis=1))
    assert y.var(axis=0).mean() == pytest.approx(1.0, rel=0.05)  # the error of guessing the mean


def test_the_payload_is_at_the_sender_alone() -> None:
    data = ring_transfer(10, 4000, Cut("random", 0.5), distance=3, payload=2)
    x = data.train_x.reshape(len(data.train_x), 10, 2)
    np.testing.assert_array_equal(x[:, 3], data.train_y[:, 0])
    assert (x[:, 0] == 0).all()
    assert (np.delete(x, [0, 3], axis=1) == 1).all()
    assert data.preparation.answering == (0,)
    assert data.train_y.var() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("x,ta\n1,2\n2,3\n3,4\n", {"targets": {"tb": "b"}}, "expected columns of the file in data.targets, got 'tb'"),
        (
            "x,ta,tb\n1,,2\n2,,3\n3,,4\n",
            {"targets": {"ta": "a", "tb": "b"}},
            "agent a among the training samples, got gaps",
        ),
        (
            "x,ta,tb,tc\n1,1,2,3\n2,2,3,4\n3,3,4,5\n",
            {"targets": {"ta": "a", "tb": "b", "tc": "a"}},
            "expected as many targets",
        ),
        (
            "x,ta\n1,1\n2,2\n3,3\n",
            {"targets": {"ta": "a"}, "ignore": ["ta"]},
            "'ta', got it in data.targets and data.ignore",
        ),
        (
            "t,a,b\n0,1,1\n1,2,2\n2,3,3\n",
            {"targets": {"a": 0}, "time": "t", "window": 9, "ahead": 1},
            "at least 10 rows",
        ),
        ("when,s,v,label\n0,a,1,1\n0,a,2,1\n", {"agent": "s", "time": "when"}, "when 0, s a again in line 3"),
        ("when,s,v,label\n0,a,1,1\n1,,2,1\n", {"agent": "s", "time": "when"}, "expected an agent, got a gap in line 3"),
        ("when,s,v,label\n0,a,1,1\n1,a,2,1\n", {"agent": "s"}, "expected data.time"),
        ("when,s,v,x\n0,a,1,1\n1,a,2,1\n", {"agent": "s", "time": "when"}, "expected a column 'label' for data.target"),
        (
            "when,s,v,label\n" + "".join(f"{i},a,1,{i}\n" for i in range(6)) + "0.5,b,2,1\n",
            {"agent": "s", "time": "when", "window": 2, "ahead": 1},
            "expected equal steps of 'when' for data.window and data.ahead, got steps of 0.5 and 1",
        ),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, text: str, options: Any, message: str) -> None:
    file = written(tmp_path, text)
    split = None if "time" in options else "last"
    with pytest.raises(ValueError) as caught:
        read_dataset(file, regression=True, split=split, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_that_differ_between_agents_have_to_be_said() -> None:
    y = np.array([[0, 0], [1, 2], [0, 1], [1, 2], [0, 0], [1, 1]])
    with pytest.raises(ValueError, match="same classes of every agent, got 0, 1 of agent 0 and 0, 1, 2 of"):
        from_arrays(np.eye(6), y, split="last", own=True)
    assert from_arrays(np.eye(6), y, classes=3, split="last", own=True).classes == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"targets": {"a": 0}, "agent": "s"}, "data.targets: expected none beside data.agent"),
        ({"targets": {}}, "data.targets: expected columns with their agents, got none"),
        ({"targets": {"a": 0}, "features": {"a": 0}}, "expected one use of the column 'a', got a feature and a target"),
        ({"sensors": {"a": 0}, "features": {"a": 0}}, "data.sensors: expected none beside data.features"),
        ({"targets": {"a": 0}, "ahead": 1, "split": "random"}, "data.split: expected last with data.ahead"),
        ({"distance": 3}, "data.distance: expected none"),
    ],
)
def test_options_that_contradict_are_refused(data: Any, message: str) -> None:
    config = Config()
    config.data.name, config.data.file = "file", "x.csv"
    for key, value in data.items():
        setattr(config.data, key, value)
    with pytest.raises(ValueError) as caught:
        validate(config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"targets": {"a": 0}, "sensors": {"a": 0}}, "data.targets: expected one use of the column 'a', got a feature"),
        ({"target": "a", "features": {"a": 0}}, "'a', got a feature and a target: data.target and data.features"),
        ({"features": {"a": 0}, "ignore": ["a"]}, "data.ignore: expected one use of the column 'a'"),
        ({"features": {"a": 0}, "time": "a"}, "data.time: expected one use of the column 'a'"),
        ({"window": 2, "split": "random"}, "data.split: expected last with data.window, got random"),
    ],
)
def test_a_column_of_two_uses_and_a_leaking_split_are_named(data: Any, message: str) -> None:
    test_options_that_contradict_are_refused(data, message)


X, Y = np.zeros((4, 3, 2)), np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y": np.zeros((4, 3, 0))}, "got shape (4, 3, 0), which has no targets; give at least one"),
        ({"x": X[:0], "y": Y[:0]}, "got shape (0, 3, 2), which has no samples"),
        ({"x": X[..., :0], "y": Y}, "which has no features"),
        ({"x": X, "y": Y[:, :2]}, "got shape (4, 2), where x has 3 agents; give a column for every agent"),
        ({"x": X, "y": Y.astype(str)}, "expected numbers in y, got an array of <U"),
        ({"test_x": X[:, :2], "test_y": Y}, "got shape (4, 2, 2), where train_x has 3 x 2 per sample"),
        ({"test_x": X.transpose(0, 2, 1), "test_y": Y}, "got shape (4, 2, 3), where train_x has 3 x 2 per sample"),
        ({"test_x": X, "test_y": Y[:, :2]}, "expected test_y of (samples, agents)"),
        (
            {"test_x": X, "test_y": Y, "validation_x": X[..., :1], "validation_y": Y},
            "validation_x of (samples, agents, features), got shape (4, 3, 1)",
        ),
        ({"x": X, "y": Y * np.nan}, "expected known targets of 0, 1, 2, got gaps alone"),
    ],
)
def test_arrays_of_odd_shapes_are_refused_in_one_line(tmp_path: Path, arrays: Any, message: str) -> None:
    parts = arrays if "x" in arrays else {"train_x": X, "train_y": Y, **arrays}
    np.savez(tmp_path / "a.npz", **parts)
    with pytest.raises(ValueError) as caught:
        read_dataset(tmp_path / "a.npz", regression=True, own=True, split="last" if "x" in arrays else None)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_that_agents_answer_by_themselves_stay_images() -> None:
    x, y = np.random.default_rng(0).random((10, 4, 6)), np.tile([0, 1], (10, 3))[:, :5] * 1
    y[::2] = 1 - y[::2]
    data = from_arrays(x, y, split="last", own=True, images=True)
    assert data.image == (4, 6, 1)
    assert data.preparation.answering == (0, 1, 2, 3, 4)
    assert data.preparation.observers == {}
