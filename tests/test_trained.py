"""A trained run answers about raw readings as it did about its own test rows, from whatever they are read."""

from __future__ import annotations

import csv
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_exporting import interpreter

import dist_hdnn
from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks

CONFIGS = Path(__file__).parents[1] / "configs"
SHORT = ["--train.epochs=2", "--network.layers=2", "--plots=false"]
RUNS: dict[str, tuple[str, list[str]]] = {
    "toy": ("swiss_roll_ring8", ["--data.samples=400", "--readout.kind=local"]),
    "table": ("breast_cancer_sensors", ["--readout.kind=gossip"]),
    "targets": ("diabetes_sensors", []),
    "targets of agents": ("diabetes_sensors", ["--readout.kind=local"]),
    "images": ("digits_grid16", []),
    "windows": (
        "breast_cancer_sensors",
        ["--data.name=file", "--data.target=state", "--data.split=last", "--data.window=3", "--data.ahead=1"]
        + ["--data.sensors={a: 0, b: 1}", "--readout.kind=local"],
    ),
    "gaps": (
        "breast_cancer_sensors",
        ["--data.name=file", "--data.target=state", "--data.split=last", "--data.missing.fill=mean"]
        + ["--data.ignore=[id,time]", "--data.test_fraction=0.5", "--data.sensors={a: 0, b: 1}"],
    ),
    "gaps in time": (
        "breast_cancer_sensors",
        ["--data.name=file", "--data.target=state", "--data.time=time", "--data.missing.fill=last", "--data.window=3"]
        + ["--data.ignore=[id]", "--data.split=last", "--data.test_fraction=0.5", "--data.sensors={a: 0, b: 1}"],
    ),
    "channels": ("mnist_channels", ["--data.name=digits", "--data.folder=null"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def series(path: Path, rows: int = 120) -> Path:
    """A time series on disk: a time, an id, two columns with gaps, and a class that depends on three rows before."""
    a, b = np.random.default_rng(0).standard_normal((2, rows)).round(3)
    gaps = np.random.default_rng(1).random((2, rows)) < 0.2 if "gaps" in path.name else np.zeros((2, rows), bool)
    cells = [
        ["" if gap else value for gap, value in zip(*both, strict=True)] for both in zip(gaps, (a, b), strict=True)
    ]
    states = np.where(np.roll(a, 3) > 0, "on", "off")
    if "gaps" not in path.name:
        return written(path, ["a", "b", "state"], *cells, states)
    days = [f"2026-01-01 {i // 60:02}:{i % 60:02}" for i in range(rows)]
    return written(path, ["time", "id", "a", "b", "state"], days, range(7, 7 + rows), *cells, states)


def written(path: Path, names: list[str], *columns: object) -> Path:
    """A table on disk."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
    return path


def trained(folder: Path, case: str) -> Path:
    """The run of a case, trained when it is first asked for."""
    config, options = RUNS[case]
    output = folder / case.replace(" ", "_")
    if "--data.name=file" in options:
        options = [*options, f"--data.file={series(folder / ('gaps.csv' if 'gaps' in case else 'series.csv'))}"]
    if not output.exists():
        tasks.train(read_config(CONFIGS / f"{config}.yaml", [*SHORT, *options, f"--output={output}"]))
    return output


def raw_test_rows(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test rows of a run as they came, and their answers."""
    config = read_config(run / "config.yaml", ["--data.standardise=false"])
    data = assembly.build_dataset(config)
    return data.test_x, data.test_y


@pytest.mark.parametrize("case", [case for case in RUNS if case not in ("windows", "gaps", "gaps in time")])
def test_a_loaded_run_repeats_the_test_figure_from_raw_readings(case: str, folder: Path) -> None:
    directory = trained(folder, case)
    summary = json.loads((directory / "summary.json").read_text())
    run = dist_hdnn.load_run(directory)
    x, y = raw_test_rows(directory)
    found = run.predict(x)
    if "test_r2" in summary:
        y = y[:, 0]
        assert found.dtype == np.float64 and run.targets == ("target",) and run.classes == ()
        assert 1 - ((found - y) ** 2).sum() / ((y - y.mean()) ** 2).sum() == pytest.approx(summary["test_r2"], abs=1e-5)
    else:
        names = np.array(run.classes)
        assert (found == names[y]).sum() == round(summary["test_accuracy"] * len(y))
        assert (found == names[y]).mean() == summary["test_accuracy"]
    scores = run(torch.from_numpy(x[:5]))
    assert scores.shape[-1] == max(len(run.classes), len(run.targets)) and torch.isfinite(scores).all()


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, str]]:
    """The rows that predict prints."""
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 0, capsys.readouterr().err
    return list(csv.DictReader(capsys.readouterr().out.splitlines()))


def test_predict_finds_columns_by_name_and_answers_by_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = trained(folder, "table")
    run = dist_hdnn.load_run(directory)
    x, _ = raw_test_rows(directory)
    names = ["station", *run.columns[::-1]]
    stations = [f"s{i}" for i in range(len(x))]
    file = written(tmp_path / "new.csv", names, stations, *x.T[::-1].tolist())
    rows = asked(capsys, directory, file, "--keep=station", "--probabilities", "--agents")
    assert [row["prediction"] for row in rows] == run.predict(x).tolist()
    assert [row["station"] for row in rows] == stations and [int(row["row"]) for row in rows] == list(range(len(x)))
    assert set(run.classes) == {"benign", "malignant"} and len(run.agents) == 10
    for row in rows[:20]:
        assert sum(float(row[f"probability_{name}"]) for name in run.classes) == pytest.approx(1)
        votes = [row[f"agent_{name}"] for name in run.agents]
        assert votes.count(row["prediction"]) >= 5


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_every_form_of_file_gives_and_takes_the_same(suffix: str, folder: Path, tmp_path: Path) -> None:
    directory, output = trained(folder, "targets"), tmp_path / f"answers{suffix}"
    run = dist_hdnn.load_run(directory)
    x, _ = raw_test_rows(directory)
    file = tmp_path / f"new{suffix}"
    if suffix == ".csv":
        written(file, list(run.columns), *x.T.tolist())
    elif suffix == ".npz":
        np.savez(file, x=x)
    else:
        table = pytest.importorskip("pyarrow").table({name: x[:, i] for i, name in enumerate(run.columns)})
        pytest.importorskip("pyarrow.parquet").write_table(table, file)
    assert main(["predict", str(directory), str(file), f"--output={output}"]) == 0
    if suffix == ".csv":
        with output.open() as stream:
            found = [float(row["target"]) for row in csv.DictReader(stream)]
    elif suffix == ".npz":
        found = np.load(output)["target"].tolist()
    else:
        found = pytest.importorskip("pyarrow.parquet").read_table(output)["target"].to_pylist()
    assert found == run.predict(x).tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, output.name])


def test_a_time_series_is_answered_from_the_first_full_window_on_whatever_the_batches(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = trained(folder, "windows")
    run = dist_hdnn.load_run(directory)
    assert run.columns == ("a", "b") and run.features == ("a[t-2]", "a[t-1]", "a[t]", "b[t-2]", "b[t-1]", "b[t]")
    rows = asked(capsys, directory, folder / "series.csv", "--keep=state")
    assert [int(row["row"]) for row in rows] == list(range(2, 120))
    config = read_config(directory / "config.yaml")
    summary = json.loads((directory / "summary.json").read_text())
    data = assembly.build_dataset(config)
    truth = [row["state"] for row in rows]  # of the same row; the answer is about the next one
    right = [row["prediction"] == state for row, state in zip(rows[:-1], truth[1:], strict=True)]
    assert np.mean(right[-len(data.test_x) :]) == summary["test_accuracy"]
    monkeypatch.setattr("dist_hdnn.build.trained.evaluation_batch", lambda _: 2)
    assert asked(capsys, directory, folder / "series.csv", "--keep=state") == rows


@pytest.mark.parametrize("case", ["table", "targets", "targets of agents", "images"])
def test_an_exported_run_and_its_agents_take_raw_readings(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = trained(folder, case)
    run = dist_hdnn.load_run(directory)
    x = raw_test_rows(directory)[0][:6].astype(np.float64)
    exported = dist_hdnn.export(run, tmp_path / "exported")
    about = json.loads((exported / "config.json").read_text())
    expected = run(torch.from_numpy(x)).double()
    scale = 1e-5 * max(1.0, float(expected.abs().max()))
    assert about["features"] == list(run.features) and about["input"]["dtype"] == "float64"
    assert about.get("classes", []) == list(run.classes) and about.get("targets", []) == list(run.targets)
    program = torch.export.load(exported / "network.pt2").module()
    assert torch.allclose(program(torch.from_numpy(x)).double(), expected, rtol=0, atol=scale)

    alone = interpreter()
    agents = alone.load_agents(exported / "agents")
    found = alone.run_together({i: agent.answer(x) for i, agent in agents.items()})
    answers = [scores for scores in found.values() if scores.shape[1]]
    total = np.stack(answers, axis=1) if expected.ndim == 3 else np.sum(answers, axis=0)
    assert np.abs(total - expected.numpy()).max() <= scale
    written(tmp_path / "new.csv", list(run.features), *x.T.tolist())
    monkeypatch.setattr("sys.argv", ["agent_by_agent.py", str(exported / "agents"), str(tmp_path / "new.csv")])
    alone.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == max(len(run.agents), 1)
    if run.classes:
        told = [line.split(": ")[1].split(", ") for line in lines]
        best = expected.argmax(dim=-1).reshape(len(x), -1).T.numpy()
        assert told == np.array(run.classes)[best].astype(str).tolist()


def test_an_agent_has_the_scale_of_what_it_senses_and_no_more(folder: Path, tmp_path: Path) -> None:
    run = dist_hdnn.load_run(trained(folder, "windows"))
    exported = dist_hdnn.export(run, tmp_path / "exported")
    about = json.loads((exported / "agents" / "0.json").read_text())
    assert about["readings"]["names"] == {"0": "a[t-2]", "1": "a[t-1]", "2": "a[t]"}
    assert about["readings"]["sources"] == about["readings"]["features"] == [0, 1, 2]
    assert about["classes"] == ["off", "on"]
    with np.load(exported / "agents" / "0.npz") as tensors, np.load(exported / "agents" / "5.npz") as blind:
        assert tensors["readings.shift"].tolist() == run.scaler.shift[:3].tolist()
        assert blind["readings.scale"].shape == (0,)


@pytest.mark.parametrize("case", ["gaps", "gaps in time"])
def test_gaps_are_filled_as_in_training_on_whatever_the_batches(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = trained(folder, case)
    lines = (folder / "gaps.csv").read_text().splitlines()
    new = tmp_path / "new.csv"
    new.write_text("\n".join([lines[0], *lines[61:]]) + "\n")  # the test rows, which training has filled by themselves
    rows = asked(capsys, directory, new, "--keep=state")
    summary = json.loads((directory / "summary.json").read_text())
    right = [row["prediction"] == row["state"] for row in rows]
    assert len(rows) == (58 if "time" in case else 60) and np.mean(right) == summary["test_accuracy"]
    if "time" in case:
        assert [row["time"] for row in rows] == [line.split(",")[0] for line in lines[63:]]
    for batch in (1, 2, 7):
        monkeypatch.setattr("dist_hdnn.build.trained.evaluation_batch", lambda _, batch=batch: batch)
        assert [row["prediction"] for row in asked(capsys, directory, new)] == [row["prediction"] for row in rows]


def test_an_exported_run_fills_gaps_and_marks_them(folder: Path, tmp_path: Path) -> None:
    run = dist_hdnn.load_run(trained(folder, "gaps"))
    x = np.array([[0.5, np.nan], [np.nan, -1.0], [0.1, 0.2]])
    expected = run(torch.from_numpy(x)).softmax(dim=-1).numpy()
    told = np.concatenate([part.probabilities for part in run.answers(x) if part.probabilities is not None])
    assert run.features == ("a", "b") and np.abs(told - expected).max() < 1e-6
    exported = dist_hdnn.export(run, tmp_path / "exported")
    program = torch.export.load(exported / "network.pt2").module()
    assert np.abs(program(torch.from_numpy(x)).softmax(dim=-1).numpy() - expected).max() < 1e-6
    alone = interpreter()
    agents = alone.load_agents(exported / "agents")
    found = sum(alone.run_together({i: agent.answer(x) for i, agent in agents.items()}).values())
    assert np.abs(torch.from_numpy(found).softmax(dim=-1).numpy() - expected).max() < 1e-5


def test_a_run_answers_when_the_file_that_it_was_trained_on_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = trained(folder, "gaps in time")
    monkeypatch.setattr("dist_hdnn.build.assembly.build_dataset", lambda _: pytest.fail("the data were read"))
    assert dist_hdnn.load_run(directory).classes == ("off", "on")


def test_columns_that_are_passed_through_are_written_whatever_they_hold(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    directory, days = trained(folder, "windows"), [datetime.date(2026, 1, day) for day in range(1, 7)]
    a = [0.5] * 6
    columns = {"a": a, "b": a, "day": days, "note": [None] * 4 + ["x", None], "count": [1, None, 3, 4, 5, 6]}
    parquet.write_table(arrow.table(columns), tmp_path / "new.parquet")
    monkeypatch.setattr("dist_hdnn.build.trained.evaluation_batch", lambda model: 2)  # notes start in the third batch
    for suffix in ("npz", "parquet"):
        words = [str(tmp_path / "new.parquet"), "--keep=day,note,count", f"--output={tmp_path / f'out.{suffix}'}"]
        assert main(["predict", str(directory), *words]) == 0
    with np.load(tmp_path / "out.npz") as found:
        assert found["day"].tolist() == [str(day) for day in days[2:]] and found["note"].tolist() == ["", "", "x", ""]
        assert found["count"].tolist() == [3, 4, 5, 6]
    table = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["day"] == days[2:] and table["note"] == [None, None, "x", None] and table["count"] == [3, 4, 5, 6]


def test_windows_of_rows_that_are_not_in_order_of_time_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dist_hdnn.load_run(trained(folder, "gaps in time"))
    monkeypatch.setattr("dist_hdnn.build.trained.evaluation_batch", lambda model: 7)
    first, *lines = (folder / "gaps.csv").read_text().splitlines()
    new = tmp_path / "new.csv"
    for at in (3, 14):  # inside a batch and between two
        new.write_text("\n".join([first, *lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]) + "\n")
        with pytest.raises(ValueError, match=f"rows in order of 'time', got .* in line {at + 3}; sort the rows"):
            run.predict(new)


def test_damaged_weights_end_a_prediction_with_exit_4_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained(folder, "gaps"), run)
    weights = run / tasks.FINAL
    weights.write_bytes(weights.read_bytes()[:-10])
    capsys.readouterr()
    assert main(["predict", str(run), str(folder / "gaps.csv")]) == 4
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.out == ""


class Frame(dict[str, Any]):
    """What all libraries of data frames have: names of columns, and columns by name."""

    columns = property(list)


def test_a_data_frame_is_read_by_the_names_of_its_columns(folder: Path) -> None:
    directory = trained(folder, "table")
    run = dist_hdnn.load_run(str(directory))
    x, _ = raw_test_rows(directory)
    frame = Frame(zip(run.columns[::-1], x.T[::-1], strict=True))
    assert run.predict(frame).tolist() == run.predict(x).tolist()
    frame["station"] = np.array(["s"] * len(x))
    assert next(run.answers(frame, keep=["station"])).kept["station"][:2] == ["s", "s"]
    with pytest.raises(ValueError, match="got 'station' too; give --keep=station to pass columns through"):
        run.predict(frame)
    del frame["station"], frame["worst area"]
    with pytest.raises(ValueError, match="expected the columns .*, got no 'worst area'"):
        run.predict(frame)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_index_that_pandas_writes_passes_through(suffix: str, folder: Path, tmp_path: Path) -> None:
    run = dist_hdnn.load_run(trained(folder, "gaps"))
    file, columns = tmp_path / f"new{suffix}", {"a": [0.1, -0.2], "b": [0.3, 0.4]}
    if suffix == ".csv":
        written(file, ["", "a", "b"], ["s0", "s1"], *columns.values())
    else:
        name = "__index_level_0__"
        table = pytest.importorskip("pyarrow").table({**columns, name: ["s0", "s1"]})
        about = {b"pandas": json.dumps({"index_columns": [name]}).encode()}
        pytest.importorskip("pyarrow.parquet").write_table(table.replace_schema_metadata(about), file)
    (answers,) = run.answers(file)
    assert list(answers.kept["index"]) == ["s0", "s1"]
    assert answers.prediction.tolist() == run.predict(np.array(list(columns.values())).T).tolist()


FILES: dict[str, tuple[str, str]] = {
    "missing column": ("a\n1\n", "expected the columns a, b, got no 'b'; the columns are a"),
    "misspelt column": ("a,B\n1,2\n", "got no 'b'; is it 'B'?"),
    "column twice": ("a,b,b\n1,2,3\n", "got the column 'b' twice"),
    "unknown column": ("a,b,c,d\n1,2,3,4\n", "got 'c', 'd' too; give --keep=c,d to pass columns through"),
    "no header": ("1,2\n3,4\n", "the first line is 1, 2 and has to name the columns"),
    "text": ("a,b\n1,2\n1,low\n", "expected a number, got 'low' in line 3, column 'b'"),
    "digits in disguise": ("a,b\n1,2_0\n", "expected a number, got '2_0' in line 2, column 'b'"),
    "infinity": ("a,b\n1,inf\n", "expected finite numbers, got inf at line 2, column 'b'"),
    "empty cell": ("a,b\n1,\n", "expected finite numbers, got nan at line 2, column 'b'"),
    "short row": ("a,b\n1,2\n3\n", "expected 2 cells as in the header, got 1 in line 3"),
    "no rows": ("a,b\n", "expected rows of readings, got none"),
    "fewer rows than a window": ("a,b\n1,2\n3,4\n", "expected at least 3 rows for a window of as many, got 2"),
    "empty": ("", "expected samples, got an empty file"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_does_not_fit_is_one_line_and_leaves_nothing(
    case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = FILES[case]
    file = tmp_path / "new.csv"
    file.write_text(content)
    directory = trained(folder, "windows")
    capsys.readouterr()
    assert main(["predict", str(directory), str(file), f"--output={tmp_path / 'out.csv'}"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no file": (["RUN"], "expected RUN and FILE, got"),
    "unknown option": (["RUN", "x.csv", "--ouput=a.csv"], "unknown option --ouput; did you mean --output?"),
    "no such file": (["RUN", "none.csv"], "none.csv: expected a file (.csv, .tsv"),
    "a suffix": (["RUN", "config.txt"], "expected one of the suffixes .csv, .tsv"),
    "a suffix of the output": (["RUN", "x.npy", "--output=a.xls"], "expected one of the suffixes .csv, .parquet, .npz"),
    "an output that exists": (["RUN", "x.npy", "--output=out.csv"], "which exists; delete it"),
    "an output nowhere": (["RUN", "x.npy", "--output=no/a.csv"], "expected a folder that exists"),
    "other shape": (["RUN", "x.npy"], "expected 10 readings per row (age, sex, bmi"),
    "text": (["RUN", "text.npy"], "expected real numbers, got an array of <U1"),
    "not a number": (["RUN", "nan.npy"], "expected finite numbers, got nan at row 1, column 'bp'"),
    "columns of arrays": (["RUN", "nan.npy", "--keep=a"], "expected a table for --keep, got arrays"),
    "agents that do not answer": (["RUN", "good.npy", "--agents"], "got readout.kind=sum; leave it out"),
    "probabilities of targets": (["RUN", "good.npy", "--probabilities"], "got a regression; leave it out"),
    "no home": (["RUN", "~nosuchuser/a.csv"], "no home directory of ~nosuchuser"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistaken_prediction_is_one_line(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = MISTAKES[case]
    run = trained(folder, "targets")
    monkeypatch.chdir(tmp_path)
    for name in ("config.txt", "out.csv"):
        Path(name).write_text("")
    good = np.ones((3, 10))
    hole = good.copy()
    hole[1, 3] = np.nan
    for name, array in {"x": good[:, :9], "text": np.full((3, 10), "a"), "nan": hole, "good": good}.items():
        np.save(name, array)
    capsys.readouterr()
    assert main(["predict", *(word.replace("RUN", str(run)) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
