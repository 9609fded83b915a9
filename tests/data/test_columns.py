"""What files of tables hold in practice: everything is read as it is meant, named to be ignored, or refused by line."""

import gzip

import numpy as np
import pandas
import pytest
import torch

from dist_hdnn.data import from_arrays, read_dataset

PLAIN = "a,b,label\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n"


@pytest.fixture
def read(tmp_path):
    def read_text(text: str | bytes, name: str = "t.csv", **options):
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return read_dataset(tmp_path / name, **{"split": "last"} | options)

    return read_text


def rows_of(data) -> list[list[float]]:
    return [*data.train_x.tolist(), *data.test_x.tolist()]


SAME = {
    "windows line ends": (PLAIN.replace("\n", "\r\n"), "t.csv"),
    "byte order mark": ("\ufeff" + PLAIN, "t.csv"),
    "blanks around": (PLAIN.replace(",", " , "), "t.csv"),
    "blank lines": (PLAIN.replace("\n", "\n\n"), "t.csv"),
    "quotes": (PLAIN.replace("3", '"3"').replace("a,", '"a",'), "t.csv"),
    "labels as 1.0": (PLAIN.replace(",1\n", ",1.0\n").replace(",0\n", ",0.0\n"), "t.csv"),
    "exponents": (PLAIN.replace("7", "+.7E1"), "t.csv"),
    "tabs": (PLAIN.replace(",", "\t"), "t.tsv"),
    "gzip": (PLAIN, "t.csv.gz"),
    "tabs, gzip": (PLAIN.replace(",", "\t"), "t.tsv.gz"),
    "capitals": (PLAIN, "T.CSV"),
}


@pytest.mark.parametrize("how", SAME)
def test_the_same_table_written_in_another_way_is_the_same_data(read, how: str) -> None:
    text, name = SAME[how]
    data = read(text, name)
    assert rows_of(data) == [[1, 2], [3, 4], [5, 6], [7, 8]] and [*data.train_y, *data.test_y] == [0, 1, 0, 1]
    assert data.feature_names == ("a", "b") and data.name == name.split(".")[0]


REFUSED = {
    "a number with underscores": ("2,", "2021_05,", {}, "got '2021_05' in line 2, column 'b'; write a number there"),
    "thousands": ("4", '"1,234"', {}, "got '1,234' in line 3, column 'b'; write a number there (1234.5)"),
    "a decimal comma": ("4", '"1,5"', {}, "got '1,5' in line 3"),
    "a date": ("4", "2021-05-01", {}, "got '2021-05-01' in line 3, column 'b'; .* name the column in data.ignore"),
    "digits of another script": ("4", "٤", {}, "got '٤' in line 3"),
    "a surplus cell": ("4,1", "4,1,9", {}, "expected 3 cells as in the header, got 4 in line 3"),
    "blank columns": ("\n", ",\n", {}, r"got a column without a name \(''\), .* or set data.ignore=\[''\]"),
    "a commented header": ("a,b", "# a,b", {}, "got '# a' first; remove the #"),
    "a commented row": ("3,4,1", "# what,4,1", {}, "got '# what' in line 3"),
    "the index of pandas": ("a,b", "Unnamed: 0,b", {}, r"pandas writes its row index; .* data.ignore=\['Unnamed: 0'\]"),
    "an index without a name": ("a,b", ",b", {}, r"write the file with index=False, or set data.ignore=\[''\]"),
    "another target": ("label", "Label", {}, "name the column of the answers in data.target, perhaps 'Label'"),
    "an unknown column": (
        "",
        "",
        {"ignore": ["bb"]},
        "a column of the file for data.ignore, got 'bb'; did you mean 'b'?",
    ),
    "an unknown time": ("", "", {"time": "when"}, "for data.time, got 'when'; correct its name"),
    "a column in two roles": (
        "",
        "",
        {"ignore": ["label"]},
        "expected one use of the column 'label', got it in data.target and data.ignore",
    ),
    "all ignored": ("", "", {"ignore": ["a", "b"]}, "got no feature column"),
    "rows out of order": (
        "5,",
        "2,",
        {"time": "a"},
        "rows in order of 'a', got 2 after 3 in line 4; sort the rows",
    ),
    "a gap in time": ("5,", ",", {"time": "a"}, "expected a time, got a gap in line 4, column 'a'"),
    "no date": ("5,", "May,", {"time": "a"}, "a number or a date such as 2026-01-31 12:00, got '.*' in line"),
    "a label between names": (
        "0",
        "cat",
        {},
        "expected a n.*, got '.*' in line .*; write numbers there, or names alone",
    ),
    "two delimiters": (",", ";", {}, "got 'a;b;label', separated by ';'; save it with commas"),
    "tabs in .csv": (",", "\t", {}, "separated by tabs; name it .tsv"),
    "a time of two rows": ("5,", "3,", {"time": "a", "window": 2}, "one row for each time .* got 3 again in line 4"),
    "time at random": ("", "", {"time": "a", "split": "random"}, "expected data.split=last .* got random"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_nobody_would_use_is_refused_by_line_and_column(read, fault: str) -> None:
    old, new, options, message = REFUSED[fault]
    with pytest.raises(ValueError, match=message.replace("(1234.5)", r"\(1234.5\)")) as caught:
        read(PLAIN.replace(old, new) if old else PLAIN, **options)
    assert "\n" not in str(caught.value)


def test_names_of_classes_are_names_whatever_they_look_like(read) -> None:
    data = read("x,label\n1,1_1\n2,1_2\n3,2_1\n4,1_1\n")
    assert data.class_names == ("1_1", "1_2", "2_1") and [*data.train_y, *data.test_y] == [0, 1, 2, 0]
    assert read("x,label\n1,True\n2,False\n3,True\n4,False\n").class_names == ("False", "True")
    for gap in ("nan", "", "NA"):
        with pytest.raises(ValueError, match=f"expected an answer, got the gap '{gap}' in line 3, column 'label'"):
            read(f"x,label\n1,cat\n2,{gap}\n3,dog\n")


def test_a_file_in_another_encoding_is_told_to_be_saved_as_utf8(read) -> None:
    with pytest.raises(
        ValueError, match="expected comma-separated UTF-8 text, got the byte 0xf6 at place 2; save it as"
    ):
        read("größe,label\n1,0\n2,1\n".encode("latin-1"))


def test_a_damaged_gzip_file_is_told_to_be_written_again(tmp_path) -> None:
    whole = gzip.compress(PLAIN.encode() * 100)
    for number, content in enumerate((b"no gzip", whole[: len(whole) // 2], whole[:20] + bytes(8) + whole[28:])):
        path = tmp_path / f"broken{number}.csv.gz"
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=f"broken{number}.csv.gz: expected a readable file, got .* or write it again"
        ):
            read_dataset(path, split="last")


def test_true_and_false_among_features_are_one_and_zero(read) -> None:
    assert rows_of(read(PLAIN.replace("2", "True").replace("4", "false").replace("6", "TRUE")))[:3] == [
        [1, 1],
        [3, 0],
        [5, 1],
    ]


def test_ignored_columns_and_the_time_are_no_features(read) -> None:
    text = "when,who,a,label\n2026-01-01,x,1,0\n2026-01-02 12:00,y,2,1\n2026-01-02 12:00,z,3,0\n2026-02-01,w,4,1\n"
    data = read(text, split=None, time="when", ignore=["who"], test_fraction=0.25)
    assert data.feature_names == ("a",) and data.test_x.tolist() == [[4]]  # the split is last
    assert (data.preparation.time, data.preparation.ignored) == ("when", ("who",))


def test_a_column_that_counts_the_rows_is_named(read) -> None:
    rows = "".join(f"{i},{i % 3},{i % 2}\n" for i in range(12))
    with pytest.warns(
        UserWarning, match="the column 'id' counts the rows; if it is no reading, name it in data.ignore"
    ):
        read("id,b,label\n" + rows)


def test_gaps_of_a_table_are_refused_with_the_remedy_or_filled(read) -> None:
    text = PLAIN.replace("3,", ",").replace("6", "n/a")
    with pytest.raises(ValueError, match="got nan at line 3, column 'a' .* or set data.missing to fill gaps"):
        read(text)
    data = read(text, missing="mean", test_fraction=0.25)
    assert data.feature_names == ("a", "b", "a missing", "b missing")
    assert rows_of(data) == [[1, 2, 0, 0], [3, 4, 1, 0], [5, 3, 0, 1], [7, 8, 0, 0]]


def test_a_path_that_cannot_be_one_is_a_one_line_error() -> None:
    with pytest.raises(ValueError, match="expected a path, got .*; correct data.file"):
        read_dataset("x" * 300 + ".csv", split="last")


def test_a_class_that_training_never_sees_is_named(read) -> None:
    text = "x,label\n1,a\n2,b\n3,a\n4,b\n5,a\n6,c\n"
    with pytest.warns(UserWarning, match="the test part has samples of class 'c', the training part has none; look at"):
        read(text, test_fraction=0.3)


def test_an_array_that_nobody_looks_at_is_refused(tmp_path) -> None:
    np.savez(tmp_path / "t.npz", x=np.eye(4), y=[0, 1, 0, 1], mask=np.ones(4))
    with pytest.raises(ValueError, match="expected x, y alone, got 'mask' too, which is not used; remove"):
        read_dataset(tmp_path / "t.npz", split="last")


def test_a_row_index_that_pandas_wrote_to_parquet_is_no_feature(tmp_path) -> None:
    frame = pandas.DataFrame({"a": np.arange(8.0), "b": np.ones(8), "label": np.repeat([0, 1], 4)})
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "t.parquet")
    assert read_dataset(tmp_path / "t.parquet", split="random").feature_names == ("a", "b")
    days = frame.set_index(pandas.date_range("2026-01-01", periods=8, name="day"))
    days.to_parquet(tmp_path / "days.parquet")
    data = read_dataset(tmp_path / "days.parquet", time="day")
    assert data.feature_names == ("a", "b") and data.test_x[:, 0].tolist() == [4, 5, 6, 7]
    holed = frame.assign(a=frame["a"].where(frame["a"] != 2), c=pandas.array([1, None] * 4, dtype="Int64"))
    holed.to_parquet(tmp_path / "gaps.parquet")
    filled = read_dataset(tmp_path / "gaps.parquet", split="last", missing="zero")
    assert filled.feature_names == ("a", "b", "c", "a missing", "c missing") and filled.train_x[2, 0] == 0
    days.reset_index().to_parquet(tmp_path / "dates.parquet")
    with pytest.raises(ValueError, match="expected a number, got '2026-01-01.*' in row 0, column 'day'"):
        read_dataset(tmp_path / "dates.parquet", split="last")


ARRAYS = {
    "lists": lambda x: x.tolist(),
    "Fortran order": np.asfortranarray,
    "half precision": lambda x: x.astype(np.float16),
    "whole numbers": lambda x: x.astype(np.uint64),
    "every second row of more": lambda x: np.repeat(x, 2, axis=0)[::2],
    "a tensor with gradients": lambda x: torch.tensor(x, requires_grad=True),
    "a tensor of bfloat16": lambda x: torch.tensor(x).bfloat16(),
    "a sparse tensor": lambda x: torch.tensor(x).to_sparse(),
    "a masked array without a mask": np.ma.array,
    "a pandas table": lambda x: pandas.DataFrame(x, columns=["a", "b"]),
    "a pandas table of kinds": lambda x: pandas.DataFrame({"a": x[:, 0].astype(int), "b": x[:, 1]}),
    "objects of pandas": lambda x: pandas.DataFrame(x, columns=["a", "b"]).astype("Float64"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_any_kind_are_the_numbers_they_hold(kind: str) -> None:
    x = np.arange(8.0).reshape(4, 2)
    data = from_arrays(ARRAYS[kind](x), [0, 1, 0, 1], split="last")
    assert rows_of(data) == x.tolist() and data.train_x.dtype == np.float64
    if "pandas" in kind:
        assert data.feature_names == ("a", "b")


def test_columns_of_pandas_may_be_answers_and_gaps() -> None:
    frame = pandas.DataFrame({"a": pandas.array([1, None, 3, 4], dtype="Int64"), "b": [1.0, 2.0, 3.0, 4.0]})
    labels = pandas.Series([0, 1, 0, 1], index=[9, 8, 7, 6])
    assert rows_of(from_arrays(frame, labels, split="last", missing="zero"))[1] == [0, 2, 1]
    with pytest.raises(ValueError, match="got nan at row 1, column 'a'"):
        from_arrays(frame, labels, split="last")
    with pytest.raises(ValueError, match="expected real numbers in x, got an array of object"):
        from_arrays(frame.assign(a=["x", "y", "z", "w"]), labels, split="last")
