"""Which samples train, validate and test: disjoint, stated, under the seed, and never across a window of rows."""

import numpy as np
import pytest

from dist_hdnn.build.inputs import build_dataset
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.data import Cut, Dataset, Task, dataset_of, digits, from_arrays, read_dataset, standardised, swiss_roll

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


def test_the_alternate_split_trains_on_even_and_tests_on_odd_positions():
    train, validation, test = Cut("alternate", 0.1, seed=3).parts(9)
    assert train.tolist() == [0, 2, 4, 6, 8] and test.tolist() == [1, 3, 5, 7] and not len(validation)


@pytest.mark.parametrize(("samples", "fraction", "held_out"), [(100, 0.2, 20), (10, 0.01, 1), (10, 0.999, 9)])
def test_the_random_split_holds_out_the_fraction_and_loses_no_point(samples, fraction, held_out):
    train, _, test = Cut("random", fraction, seed=3).parts(samples)
    assert len(test) == held_out and sorted([*train, *test]) == list(range(samples))
    assert Cut("random", fraction, seed=3).parts(samples)[2].tolist() == test.tolist()


def test_the_last_samples_of_a_time_series_are_held_out_and_those_before_validate():
    train, validation, test = Cut("last", 0.3, seed=0, validation_fraction=0.5).parts(20)
    assert (train.tolist(), validation.tolist(), test.tolist()) == (
        list(range(7)),
        list(range(7, 14)),
        list(range(14, 20)),
    )


@pytest.mark.parametrize("split", ["alternate", "random"])
def test_validation_points_come_out_of_the_training_points_under_the_seed(split):
    rest, _, test = Cut(split, 0.25, seed=3).parts(40)
    train, validation, same = Cut(split, 0.25, 3, validation_fraction=0.3).parts(40)
    assert test.tolist() == same.tolist() and sorted([*train, *validation]) == rest.tolist()
    assert len(validation) == round(0.3 * len(rest)) and np.all(np.diff(validation) > 0)
    others = Cut(split, 0.25, 4, validation_fraction=0.3).parts(40)[1]
    assert validation.tolist() != others.tolist()


@pytest.mark.parametrize(("window", "ahead"), [(1, 1), (3, 2)])
def test_no_row_of_a_time_series_is_seen_in_two_parts(window, ahead, tmp_path):
    rows = np.arange(50.0)
    np.savetxt(tmp_path / "t.csv", np.c_[np.sin(rows), rows, rows], "%.9f", ",", header="s,row,next", comments="")
    options = {"split": "last", "target": "next", "regression": True, "window": window, "ahead": ahead}
    data = read_dataset(tmp_path / "t.csv", test_fraction=0.2, validation_fraction=0.25, **options)
    places = [place for place, name in enumerate(data.preparation.sources) if name == "row"]
    seen = [{*x[:, places].ravel().tolist(), *y.ravel().tolist()} for x, y in data.parts.values()]
    assert [sorted(rows) for rows in seen] == [list(range(30)), list(range(40, 50)), list(range(30, 40))]


def parts_of(data: Dataset) -> list[int]:
    return [len(x) for x, _ in data.parts.values()]


def test_every_data_set_can_give_validation_points_and_none_has_them_unasked(tmp_path):
    four = {"train_x": X, "train_y": Y, "test_x": X[:6], "test_y": Y[:6]}
    np.savez(tmp_path / "four.npz", **four)
    np.savetxt(tmp_path / "t.csv", np.c_[X, Y], "%d", ",", header="a,b,label", comments="")
    cut = Cut("random", 0.5, 0, 0.2)
    assert parts_of(swiss_roll(100, validation_fraction=0.2)) == [40, 50, 10]
    assert parts_of(digits(cut)) == [719, 898, 180]
    assert parts_of(from_arrays(X, Y, split="random", validation_fraction=0.2)) == [8, 10, 2]
    assert parts_of(read_dataset(tmp_path / "t.csv", split="random", validation_fraction=0.2)) == [8, 10, 2]
    assert parts_of(read_dataset(tmp_path / "four.npz", validation_fraction=0.2)) == [16, 6, 4]
    assert parts_of(read_dataset(tmp_path / "four.npz")) == [20, 6]
    data = dataset_of(four | {"validation_x": X[:4], "validation_y": Y[:4]}, Task("six"))
    assert parts_of(data) == [20, 6, 4] and np.array_equal(data.validation_x, X[:4])
    assert swiss_roll(100).validation_x is None and list(swiss_roll(100).parts) == ["train", "test"]


def test_validation_points_are_scaled_by_the_training_points():
    data = from_arrays(X, np.c_[Y, Y + 1.0], regression=True, split="last", validation_fraction=0.4)
    scaled = standardised(data)
    mean, deviation = (np.array(scaled.normalisation[key]) for key in ("mean", "deviation"))
    assert np.allclose(mean, X[:6].mean(axis=0)) and np.allclose(scaled.validation_x * deviation + mean, X[6:10])
    back = scaled.validation_y * scaled.normalisation["target_deviation"] + scaled.normalisation["target_mean"]
    assert np.allclose(back, data.validation_y)


def test_the_default_split_is_that_of_the_data_set_by_both_doors():
    for name, split in (("swiss_roll", "alternate"), ("digits", "random"), ("wine", "random")):
        default = build_dataset(read_config(None, [f"--data.name={name}"]))
        stated = build_dataset(read_config(None, [f"--data.name={name}", f"--data.split={split}"]))
        assert np.array_equal(default.test_x, stated.test_x), name
    assert np.array_equal(
        standardised(digits()).test_x, build_dataset(read_config(None, ["--data.name=digits"])).test_x
    )


def test_samples_of_a_user_need_a_stated_split_by_both_doors(tmp_path):
    np.savetxt(tmp_path / "t.csv", np.c_[X, Y], "%d", ",", header="a,b,label", comments="")
    np.savez(tmp_path / "pair.npz", x=X, y=Y)
    doors = [
        lambda: from_arrays(X, Y),
        lambda: read_dataset(tmp_path / "t.csv"),
        lambda: read_dataset(tmp_path / "pair.npz"),
        lambda: build_dataset(read_config(None, ["--data.name=file", f"--data.file={tmp_path / 't.csv'}"])),
    ]
    for door in doors:
        with pytest.raises(ValueError, match="expected data.split, .* got none; set data.split=random for .*=last for"):
            _ = door().test_x


def test_a_file_without_a_stated_split_tells_its_columns_and_what_is_wrong_with_it(tmp_path):
    np.savetxt(tmp_path / "t.csv", np.c_[X, Y], "%d", ",", header="a,b,label", comments="")
    data = read_dataset(tmp_path / "t.csv")
    assert (data.name, data.feature_names, data.classes, data.features) == ("t", ("a", "b"), 2, 2)
    for part in ("train_x", "train_y", "validation_x", "parts"):
        with pytest.raises(ValueError, match="data set t: expected data.split"):
            getattr(data, part)
    (tmp_path / "t.csv").write_text("a,label\n1,0\nx,1\n")
    with pytest.raises(ValueError, match="got 'x' in line 3, column 'a'"):
        read_dataset(tmp_path / "t.csv")


FAULTS = {
    "two sources": (
        {"cut": Cut(validation_fraction=0.2), "more": {"validation_x": X, "validation_y": Y}},
        "expected no data.validation_fraction beside validation_x, got 0.2; leave one of them out",
    ),
    "other columns": (
        {"more": {"validation_x": X[:, :1], "validation_y": Y}},
        "features in validation_x as in train_x, got",
    ),
    "short answers": ({"more": {"validation_x": X, "validation_y": Y[:3]}}, "validation part: .* 20 rows and 3 labels"),
    "too large": (
        {"cut": Cut(validation_fraction=1.0)},
        "validation_fraction: expected a number of at least 0",
    ),
}


@pytest.mark.parametrize("cut", [Cut("random"), Cut("alternate", validation_fraction=0.2)])
def test_a_split_of_data_that_bring_their_test_samples_is_said_to_be_unused(cut):
    with pytest.warns(UserWarning, match=f"mine: data.split={cut.split} is not used, because the test samples are"):
        dataset_of({"train_x": X, "train_y": Y, "test_x": X, "test_y": Y}, Task("mine", cut=cut))


@pytest.mark.parametrize("fault", FAULTS)
def test_parts_that_do_not_fit_are_a_one_line_error(fault):
    options, message = FAULTS[fault]
    arrays = {"train_x": X, "train_y": Y, "test_x": X, "test_y": Y} | options.pop("more", {})
    with pytest.raises(ValueError, match=message) as caught:
        dataset_of(arrays, Task("mine", **options))
    assert "\n" not in str(caught.value)


def test_inspect_counts_validation_points(capsys):
    assert main(["inspect", "--data.samples=100", "--data.validation_fraction=0.2"]) == 0
    assert "train 40 test 50 validation 10" in " ".join(capsys.readouterr().out.split())
