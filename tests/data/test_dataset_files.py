"""Data files and arrays: what is read, and one line for everything that cannot be."""

import numpy as np
import pytest

from dist_hdnn.data import from_arrays, read_dataset

GOOD = "speed,load,label\n1.5,2,0\n-3,4e2,1\n0.25,0,1\n7,8,0\n"


@pytest.fixture
def write(tmp_path):
    def write_file(text: str | bytes, name: str = "points.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write_file


def test_a_csv_file_gives_its_columns_names_and_labels(write):
    data = read_dataset(write(GOOD), split="alternate")
    assert data.name == "points" and data.feature_names == ("speed", "load") and data.classes == 2
    assert data.train_x.tolist() == [[1.5, 2.0], [0.25, 0.0]] and data.train_y.tolist() == [0, 1]
    assert data.test_x.tolist() == [[-3.0, 400.0], [7.0, 8.0]] and data.test_y.tolist() == [1, 0]
    assert data.train_x.dtype == np.float64 and data.test_y.dtype == np.int64


def test_a_random_split_holds_out_the_fraction_under_the_seed(write):
    path = write("x,label\n" + "".join(f"{i},{i % 2}\n" for i in range(50)))
    data, other = (read_dataset(path, split="random", test_fraction=0.2, seed=seed) for seed in (0, 1))
    assert len(data.test_y) == 10 and sorted([*data.train_x[:, 0], *data.test_x[:, 0]]) == list(range(50))
    assert not np.array_equal(data.test_x, other.test_x)


def test_an_npz_pair_is_split_and_four_arrays_are_taken_as_they_are(tmp_path):
    x, y = np.arange(12, dtype=np.float32).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)
    np.savez(tmp_path / "pair.npz", x=x, y=y)
    np.savez_compressed(tmp_path / "four.npz", train_x=x, train_y=y, test_x=x[:2], test_y=y[:2])
    pair, four = read_dataset(tmp_path / "pair.npz", split="alternate"), read_dataset(tmp_path / "four.npz")
    assert pair.classes == four.classes == 3 and np.array_equal(pair.test_x, x[1::2])
    assert np.array_equal(four.train_x, x) and np.array_equal(four.test_y, y[:2]) and four.feature_names == ("x1", "x2")


def test_an_option_that_there_is_not_is_an_error_of_the_function_that_was_called():
    with pytest.raises(TypeError, match=r"read_dataset\(\) got an unexpected keyword argument 'ingore'; it has ignore"):
        read_dataset("points.csv", ingore=["a"])
    with pytest.raises(TypeError, match=r"from_arrays\(\) got an unexpected keyword argument 'image'"):
        from_arrays(X, Y, image=True)


def test_arrays_in_memory_become_a_data_set():
    data = from_arrays([[0.0], [1.0], [2.0]], [False, True, True], name="mine", feature_names=["t"], split="alternate")
    assert data.classes == 2 and data.feature_names == ("t",) and data.train_y.tolist() == [0, 1]


CSV_ERRORS = {
    "missing cell": (GOOD + "1,2\n", "expected 3 cells as in the header, got 2 in line 6"),
    "text": (GOOD + "1,fast,0\n", "expected a number, got 'fast' in line 6, column 'load'; write a number there"),
    "blank": (GOOD + "\n,1,0\n", "got nan at line 7, column 'speed' .* or set data.missing to fill gaps"),
    "nan": (GOOD + "1,nan,0\n", r"got nan at line 6, column 'load' \(1 such value\); remove or fill in"),
    "infinity": (GOOD + "-inf,nan,0\n", r"got -inf at line 6, column 'speed' \(2 such values\)"),
    "text label": (GOOD + "1,2,cat\n", "got 'cat' in line 6, column 'label'"),
    "fractional label": (GOOD + "1,2,0.5\n", "expected integer labels, got 0.5 at line 6; number the classes 0, 1, 2"),
    "nan label": (GOOD + "1,2,nan\n", "expected an answer, got the gap 'nan' in line 6, column 'label'; write"),
    "label outside": (
        GOOD + "1,2,3\n",
        "expected labels 0 .. 1, got 3 at line 6; renumber the labels from 0 or correct",
    ),
    "negative label": (GOOD + "1,2,-1\n", "expected labels 0 .. 1, got -1 at line 6"),
    "one sample": ("a,label\n1,0\n", "expected at least 2 samples, got 1"),
    "header only": ("a,label\n", "expected samples below the header, got none"),
    "no header": ("1,2,0\n3,4,1\n", "expected a header line of feature columns and one column 'label', got '1, 2, 0'"),
    "semicolons": ("a;label\n1;0\n", "separated by commas, got 'a;label', separated by ';'; save it with commas"),
    "no feature": ("label\n1\n0\n", "got no feature column"),
    "repeated column": ("a,a,label\n1,2,0\n", "got the column 'a' twice"),
    "unnamed column": ("a,,label\n1,2,0\n", "got a column without a name"),
    "empty": ("", "expected samples, got an empty file"),
    "only spaces": ("\n\n", "got an empty line first; name the columns"),
    "binary": (
        bytes(range(128, 256)),
        "expected comma-separated UTF-8 text, .* byte 0x80 at place 0; save it as UTF-8",
    ),
    "endless cell": (GOOD + "1" * 200_000 + "\n", "expected comma-separated UTF-8 text, got field larger than"),
}


@pytest.mark.parametrize("fault", CSV_ERRORS)
def test_a_faulty_csv_file_is_a_one_line_error_that_names_the_file(write, fault):
    text, message = CSV_ERRORS[fault]
    path = write(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(path, classes=2, split="random")
    assert f"data file {path}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_or_wrongly_named_file_is_a_one_line_error(write, tmp_path):
    path = write(GOOD)
    with pytest.raises(
        ValueError, match=r"pints.csv: expected a file \(.csv, .*, .npz\), found nothing; .* points.csv; correct"
    ):
        read_dataset(tmp_path / "pints.csv")
    with pytest.raises(ValueError, match="found nothing; the folder holds no such file"):
        read_dataset(tmp_path / "none" / "points.csv")
    with pytest.raises(ValueError, match=r"points.xls: expected one of the suffixes .csv, .*, .npz, got '.xls'"):
        read_dataset(path.rename(tmp_path / "points.xls"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"expected a file \(.*\), got a folder"):
        read_dataset(tmp_path / "folder.csv")


X, Y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])
NPZ_ERRORS = {
    "other names": ({"inputs": X, "y": Y}, "expected the arrays x, y or train_x.* got inputs, y; .* rename the arrays"),
    "no array": ({}, "got no array"),
    "objects": ({"x": X, "y": np.array([0, "a", None, 1], dtype=object)}, "plain numbers, got Object arrays"),
    "text": ({"x": X, "y": np.array(["a", "b", "a", "b"])}, "expected real numbers in the labels, got an array of <U1"),
    "complex": ({"x": X * 1j, "y": Y}, "expected real numbers in x, got an array of complex128"),
    "flat": ({"x": X[:, 0], "y": Y}, r"expected x of shape \(samples, features\).* got shape \(4,\)"),
    "films": ({"x": X.reshape(4, 1, 2, 1, 1), "y": Y}, r"got shape \(4, 1, 2, 1, 1\); for images"),
    "no pixels": ({"x": X[:, :0, None], "y": Y}, "images with pixels"),
    "one-hot": ({"x": X, "y": np.eye(4)}, r"expected y of shape \(samples,\), got shape \(4, 4\)"),
    "lengths": ({"x": X, "y": Y[:3]}, "expected as many labels as rows of x, got 4 rows and 3 labels"),
    "nan": ({"x": np.where(X == 5, np.nan, X), "y": Y}, "got nan at row 2, column 'x2'"),
    "one class": ({"x": X, "y": 0 * Y}, "expected samples of at least 2 classes, got 1; give some of"),
    "gap": ({"x": X, "y": Y + 1}, "expected labels 0, 1, 2, ... without a gap, got 1, 2; renumber them from 0"),
    "features": (
        {"train_x": X, "train_y": Y, "test_x": X[:, :1], "test_y": Y},
        "expected as many features in test_x as in train_x, got 1 and 2",
    ),
    "test part": (
        {"train_x": X, "train_y": Y, "test_x": X + np.inf, "test_y": Y},
        "test part: expected finite numbers, got inf at row 0",
    ),
    "test lengths": ({"train_x": X, "train_y": Y, "test_x": X, "test_y": Y[:2]}, "test part: .* 4 rows and 2 labels"),
}


@pytest.mark.parametrize("fault", NPZ_ERRORS)
def test_a_faulty_npz_file_is_a_one_line_error_that_names_the_file(tmp_path, fault):
    arrays, message = NPZ_ERRORS[fault]
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(path, split=None if "train_x" in arrays else "random", images=fault == "no pixels")
    assert str(caught.value).startswith(f"data file {path}") and "\n" not in str(caught.value)


def test_a_damaged_archive_is_a_one_line_error(write, tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", x=np.random.default_rng(0).random((50, 2)), y=np.arange(50) % 2)
    whole = (tmp_path / "whole.npz").read_bytes()
    broken = bytearray(whole)
    broken[60:160] = bytes(100)
    np.save(tmp_path / "bare.npy", X)
    damages = [whole[:100], whole[:-30], bytes(broken), b"no archive at all", (tmp_path / "bare.npy").read_bytes()]
    for number, damage in enumerate(damages):
        with pytest.raises(ValueError, match=f"damaged{number}.npz: expected an .npz archive of plain numbers, got"):
            read_dataset(write(damage, f"damaged{number}.npz"))


def test_classes_given_by_hand_may_have_no_sample():
    assert from_arrays(X, Y, classes=10, split="last").classes == 10
    with pytest.raises(
        ValueError, match="number of classes: expected an integer of at least 2, got 1; correct data.cl"
    ):
        from_arrays(X, Y, classes=1, split="last")
