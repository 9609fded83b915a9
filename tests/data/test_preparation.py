"""From readings to the input of a network: a run makes of new readings what training made of the old ones."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dist_hdnn.config.files import read_config
from dist_hdnn.data import (
    Preparation,
    Task,
    dataset_of,
    digits,
    from_arrays,
    read_dataset,
    shipped_table,
    standardised,
)
from dist_hdnn.experiment import tasks
from dist_hdnn.run.files import read_preparation

NAN = float("nan")
X = np.random.default_rng(0).normal(3, [1, 5, 20], size=(40, 3))
Y = np.arange(40) % 2


def with_gaps(x=X):
    holed = x.copy()
    holed[::7, 1] = holed[3:9, 2] = NAN
    return holed


def again(data, readings, names=None):
    """What the data set's preparation, through JSON, makes of the readings."""
    kept = Preparation.from_json(json.loads(json.dumps(data.preparation.as_json(), allow_nan=False)))
    assert kept == data.preparation
    return kept.apply(readings, names)


def test_readings_become_the_points_of_training_to_the_last_bit() -> None:
    split = {"split": "last", "test_fraction": 0.25}
    images = np.random.default_rng(1).integers(0, 255, (20, 4, 3), dtype=np.uint8)
    sets = {
        "as they are": (from_arrays(X, Y, **split), X),
        "scaled": (standardised(from_arrays(X, Y, **split)), X),
        "gaps": (standardised(from_arrays(with_gaps(), Y, missing="mean", **split)), with_gaps()),
        "last": (standardised(from_arrays(with_gaps(), Y, missing="last", **split)), with_gaps()),
        "images": (standardised(from_arrays(images, Y[:20], images=True, **split)), images),
    }
    for name, (data, readings) in sets.items():
        train = len(data.train_x)
        assert again(data, readings[:train]).tobytes() == data.train_x.tobytes(), name
        assert again(data, readings[train:]).tobytes() == data.test_x.tobytes(), name
    assert again(sets["images"][0], images[15:].reshape(5, 12)).tobytes() == sets["images"][0].test_x.tobytes()
    assert sets["images"][0].train_x.dtype == np.float32 and digits().preparation.image == (8, 8, 1)


def test_fills_and_scale_are_those_of_the_training_rows_alone() -> None:
    holed = with_gaps()
    data = from_arrays(holed, Y, missing="mean", split="last")
    fills = np.nanmean(holed[:20], axis=0)
    assert data.preparation.fills == tuple(fills) and data.preparation.indicators == ("x2", "x3")
    assert data.feature_names == ("x1", "x2", "x3", "x2 missing", "x3 missing") == data.preparation.features
    expected = np.where(np.isnan(holed), fills, holed)
    assert np.array_equal(np.concatenate([data.train_x, data.test_x])[:, :3], expected)
    assert np.array_equal(data.test_x[:, 3:], np.isnan(holed[20:, 1:]).astype(float))
    assert data.preparation.sources == ("x1", "x2", "x3", "x2", "x3")
    zero = from_arrays(holed, Y, missing="zero", indicator=False, split="last")
    assert zero.features == 3 and zero.train_x[0, 1] == 0.0 and zero.train_x[4, 2] == 0.0


def test_the_last_reading_fills_a_gap_and_the_mean_one_without_a_reading_before_it() -> None:
    x = np.array([[NAN], [2.0], [NAN], [NAN], [4.0], [6.0], [NAN], [8.0]])
    data = from_arrays(x, [0, 1] * 4, missing="last", indicator=False, split="last", test_fraction=0.25)
    assert data.train_x.ravel().tolist() == [4.0, 2.0, 2.0, 2.0, 4.0, 6.0]
    assert data.test_x.ravel().tolist() == [4.0, 8.0]  # a part by itself, as new rows will be
    with pytest.raises(ValueError, match="expected rows in order of time for data.missing.fill=last"):
        from_arrays(x, [0, 1] * 4, missing="last", split="random")


def test_columns_come_by_name_in_any_order_with_answers_time_and_ignored_ones_beside_them() -> None:
    data = standardised(from_arrays(X, Y, feature_names=["a", "b", "c"], split="last"))
    data = replace(data, preparation=replace(data.preparation, target="y", ignored=("id",), time="t"))
    mixed = np.column_stack([Y, X[:, 2], np.arange(40), X[:, 0], Y, X[:, 1]])
    expected = np.concatenate([data.train_x, data.test_x])
    assert np.array_equal(again(data, mixed, ["y", "c", "t", "a", "id", "b"]), expected)
    assert np.array_equal(again(data, X, ["a", "b", "c"]), expected)


FAULTS = {
    "columns": ((X[:, :2], None), r"expected numbers of shape \(rows, 3\), got float64 of shape \(40, 2\)"),
    "text": ((X.astype(str), None), "expected numbers of shape"),
    "a gap": ((with_gaps(), None), "expected finite numbers, got nan at row 0, column 'speed' .*; remove or fill in"),
    "missing": ((X, ["load", "sped", "heat"]), "expected the columns load, speed, heat, got no 'speed'; is it 'sped'"),
    "unknown": ((np.c_[X, X[:, 0]], ["load", "speed", "heat", "wear"]), "got 'wear' too; remove them"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_readings_that_do_not_fit_are_a_one_line_error(fault: str) -> None:
    given, message = FAULTS[fault]
    data = from_arrays(X, Y, feature_names=["load", "speed", "heat"], split="last")
    with pytest.raises(ValueError, match=message) as caught:
        data.preparation.apply(*given)
    assert "\n" not in str(caught.value)


def test_infinity_and_a_column_of_gaps_alone_are_no_gaps_to_fill() -> None:
    x = with_gaps()
    x[5, 0] = np.inf
    with pytest.raises(ValueError, match="got inf at row 5, column 'x1'"):
        from_arrays(x, Y, missing="mean", split="last")
    x[5, 0], x[:20, 1] = 0.0, NAN
    with pytest.raises(ValueError, match="expected a value in column 'x2' among the training rows, got gaps alone"):
        from_arrays(x, Y, missing="mean", split="last")
    with pytest.raises(ValueError, match="expected a fill among mean, zero, last, got 'median'"):
        from_arrays(with_gaps(), Y, missing="median", split="last")


def test_real_answers_come_back_in_the_units_of_the_file() -> None:
    targets = np.c_[X[:, 0] * 100 + 7, X[:, 1]]
    data = standardised(
        dataset_of({"train_x": X, "train_y": targets, "test_x": X, "test_y": targets}, Task("r", regression=True))
    )
    assert np.allclose(data.train_y.mean(axis=0), 0) and np.allclose(data.preparation.answers(data.test_y), targets)
    assert data.normalisation["target_mean"] == pytest.approx(targets.mean(axis=0))


def test_windows_of_a_run_are_windows_of_new_rows(tmp_path) -> None:
    np.savetxt(tmp_path / "t.csv", np.c_[X, Y], "%.17g", ",", header="a,b,c,label", comments="")
    data = standardised(read_dataset(tmp_path / "t.csv", split="last", window=4, ahead=2))
    points = again(data, X[20:])
    assert len(points) == 17 and np.array_equal(points[: len(data.test_x)], data.test_x)  # two lack a target
    with pytest.raises(ValueError, match="expected at least 4 rows for a window, got 3"):
        data.preparation.apply(X[:3])


def test_a_run_keeps_its_preparation(tmp_path) -> None:
    options = ["--data.name=wine", "--train.epochs=1", "--network.layers=2", "--plots=false"]
    run = tasks.train(read_config(None, [*options, f"--output={tmp_path / 'run'}"]))
    kept, data = read_preparation(run), standardised(shipped_table("wine"))
    assert kept == data.preparation and kept.class_names == ("class_0", "class_1", "class_2") and kept.classes == 3
    for text, message in (
        ("{", "got a damaged file"),
        ('{"colums": []}', "got the unknown 'colums'"),
        ("[]", "damaged"),
    ):
        (run / "data.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_preparation(run)
    (run / "data.json").unlink()
    with pytest.raises(ValueError, match="data.json: expected how the run prepares its data, got nothing"):
        read_preparation(run)
