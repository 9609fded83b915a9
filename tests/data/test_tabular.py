"""Tables: names of classes, real targets, columns of agents, parquet, folders of arrays, and every bad cell."""

import numpy as np
import pytest

from dist_hdnn.data import Task, column_views, dataset_of, from_arrays, read_dataset, shipped_table, standardised

NAMED = "speed,load,state\n1,2,ok\n3,4,worn\n5,6,broken\n7,8,ok\n"
REAL = "speed,load,output\n1,2,0.5\n3,4,-1e3\n5,6,2\n7,8,3.25\n"


@pytest.fixture
def write(tmp_path):
    def write_file(text: str, name: str = "plant.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def test_labels_of_a_table_may_be_names(write) -> None:
    data = read_dataset(write(NAMED), split="alternate", target="state")
    assert data.class_names == ("broken", "ok", "worn") and data.classes == 3
    assert data.train_y.tolist() == [1, 0] and data.test_y.tolist() == [2, 1]
    assert data.feature_names == ("speed", "load") and not data.regression and data.outputs == 3


def test_a_target_may_be_a_real_number(write) -> None:
    data = read_dataset(write(REAL), split="alternate", target="output", regression=True)
    assert data.regression and data.outputs == 1 and data.classes == 0
    assert data.train_y.tolist() == [[0.5], [2.0]] and data.test_y.tolist() == [[-1000.0], [3.25]]


BAD = {
    "unknown label": (
        NAMED.replace("ok\n3", "1\n3"),
        {"target": "state"},
        "a name, got '1' in line 2, column 'state'",
    ),
    "no label": (
        NAMED.replace("worn", ""),
        {"target": "state"},
        "an answer, got the gap '' in line 3",
    ),
    "no target": (NAMED, {"target": "wear"}, "and one column 'wear', got 'speed, load, state'"),
    "more classes": (NAMED, {"target": "state", "classes": 2}, "expected labels 0 .. 1, got 2 at line 3"),
    "a name as target": (NAMED, {"target": "state", "regression": True}, "expected real numbers in the targets"),
    "target nan": (
        REAL.replace("-1e3", "nan"),
        {"target": "output", "regression": True},
        "got the gap 'nan' in line 3",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_table_is_a_one_line_error_that_names_the_file(write, fault: str) -> None:
    text, options, message = BAD[fault]
    path = write(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(path, **{"split": "random"} | options)
    assert f"data file {path}" in str(caught.value) and "\n" not in str(caught.value)


def test_parquet_gives_what_csv_gives(write, tmp_path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"speed": [1.0, 3.0, 5.0, 7.0], "load": [2, 4, 6, 8], "state": ["ok", "worn", "broken", "ok"]}
    parquet.write_table(arrow.table(columns), tmp_path / "plant.parquet")
    data, same = (read_dataset(p, split="random", target="state") for p in (tmp_path / "plant.parquet", write(NAMED)))
    assert np.array_equal(data.train_x, same.train_x) and np.array_equal(data.test_y, same.test_y)
    assert data.class_names == same.class_names and data.feature_names == same.feature_names
    with pytest.raises(ValueError, match="expected a number, got 'ok' in row 0, column 'state'"):
        read_dataset(tmp_path / "plant.parquet", target="load")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="expected a parquet file, got"):
        read_dataset(tmp_path / "bad.parquet")


def test_without_pyarrow_a_parquet_file_is_a_one_line_error(write, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match="expected pyarrow to read .parquet, got none; pip install pyarrow"):
        read_dataset(write("x", "plant.parquet"))


def test_a_folder_of_arrays_is_a_data_set(tmp_path) -> None:
    x, y = np.arange(24.0).reshape(4, 3, 2), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="a folder with x.npy, y.npy or .* got no array; name a file inside it"):
        read_dataset(tmp_path)
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match="got x; name a file inside it"):
        read_dataset(tmp_path)
    np.save(tmp_path / "y.npy", y)
    data = read_dataset(tmp_path, split="alternate", images=True)
    assert data.image == (3, 2, 1) and np.array_equal(data.test_x, x[1::2].reshape(2, 6))
    (tmp_path / "y.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="expected .npy files of plain numbers"):
        read_dataset(tmp_path)


def test_arrays_with_several_real_targets_are_a_regression() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 40, 3))
    data = standardised(from_arrays(x, 5 + 2 * y, regression=True, split="random"))
    assert data.outputs == 3 and np.allclose(data.train_y.mean(axis=0), 0) and np.allclose(data.train_y.std(axis=0), 1)
    scale = np.array(data.normalisation["target_deviation"])
    raw = from_arrays(x, 5 + 2 * y, regression=True, split="random")
    assert np.allclose(data.test_y * scale + data.normalisation["target_mean"], raw.test_y)
    with pytest.raises(ValueError, match="as many targets in test_y as in train_y, got 1 and 3"):
        dataset_of({"train_x": x, "train_y": y, "test_x": x, "test_y": y[:, :1]}, Task("mine", regression=True))


def test_every_column_has_an_agent() -> None:
    views = column_views(["a", "b", "c"], {"c": 0, "a": 2, "b": 0}, 4)
    assert views.starts.tolist() == [0, 2, 2, 3, 3] and views.columns.tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match=r"data.features: expected columns of the data \(a, b, c\), got 'd'"):
        column_views(["a", "b", "c"], {"a": 0, "d": 1}, 4)
    with pytest.raises(ValueError, match="expected an agent for every column, got none for b, c; add b: <agent>"):
        column_views(["a", "b", "c"], {"a": 0}, 4)


@pytest.mark.parametrize(
    ("name", "features", "classes"), [("wine", 13, 3), ("breast_cancer", 30, 2), ("diabetes", 10, 0)]
)
def test_tables_ship_with_scikit_learn(name: str, features: int, classes: int) -> None:
    data = shipped_table(name)
    assert (data.features, data.classes) == (features, classes) and abs(len(data.train_x) - len(data.test_x)) <= 1


def test_windows_of_a_time_series_see_the_past_and_aim_ahead_and_never_reach_across_the_cut(write) -> None:
    rows = "".join(f"{t},{10 * t},{100 * t}\n" for t in range(12))
    path = write("a,b,next\n" + rows)
    data = read_dataset(path, None, "last", 0.4, target="next", regression=True, window=3, ahead=1)
    assert data.feature_names == ("a[t-2]", "a[t-1]", "a[t]", "b[t-2]", "b[t-1]", "b[t]")
    # of 12 rows 7 train and 5 test; a sample covers 4 of them
    assert data.train_x[0].tolist() == [0, 1, 2, 0, 10, 20] and data.train_y.ravel().tolist() == [300, 400, 500, 600]
    assert data.test_x[0].tolist() == [7, 8, 9, 70, 80, 90] and data.test_y.ravel().tolist() == [1000, 1100]
    options = {"target": "next", "regression": True, "split": "last"}
    with pytest.raises(
        ValueError, match="at least 13 rows in the training part for .* 11 rows and .* 2 rows ahead, got 6"
    ):
        read_dataset(path, **options, window=11, ahead=2)
    with pytest.raises(ValueError, match="at least 8 rows in the test part for .* 7 rows and .* 1 rows ahead, got 2"):
        read_dataset(path, **options, test_fraction=0.2, window=7, ahead=1)
    for split in ("random", "alternate"):
        with pytest.raises(ValueError, match=f"expected data.split=last for rows in order of time, got {split}, which"):
            read_dataset(path, **options | {"split": split}, ahead=1)
