"""A run is named by its directory, by runs/<name>, or by <name>: the newest finished run of that name."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dist_hdnn.command_line import run_directory
from dist_hdnn.run.directory import find_run


def made(directory: str, done: bool = True) -> Path:
    """A run directory with what a name is found by."""
    Path(directory).mkdir(parents=True)
    Path(directory, "config.yaml").write_text("seed: 0\n")
    if done:
        Path(directory, "summary.json").write_text('{"status": "done"}')
    return Path(directory)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made("runs/ring/20261121T110458Z-s0")
    made("runs/ring/20261121T110459Z-s0")
    made("runs/ring/20261121T110500Z-s0", done=False)
    made("runs/abilene")
    made("runs/half/20261121T110458Z-s0", done=False)


@pytest.mark.parametrize("name", ["ring", "runs/ring", "runs/ring/", "./runs/ring"])
def test_a_name_is_its_newest_finished_run_and_the_command_says_which(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_directory("evaluate", name)
    assert found == Path("runs/ring/20261121T110459Z-s0")
    captured = capsys.readouterr()
    assert captured.err == f"dist-hdnn: {name} is the run {found}\n" and captured.out == ""


def test_a_directory_of_a_run_is_taken_as_it_is_and_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("runs/ring/20261121T110458Z-s0", "runs/ring/20261121T110500Z-s0/", "runs/abilene"):
        assert run_directory("evaluate", given) == Path(given)
    assert capsys.readouterr().err == ""
    assert find_run("abilene") == Path("runs/abilene")


def test_the_time_in_the_name_counts_more_than_the_order_in_which_files_were_copied() -> None:
    made("runs/ring/20251121T110459Z-s0")
    assert find_run("ring").name == "20261121T110459Z-s0"
    mine = made("runs/ring/mine")
    for day, newest in ((20, "20261121T110459Z-s0"), (22, "mine")):
        second = datetime(2026, 11, day, tzinfo=UTC).timestamp()
        os.utime(mine / "config.yaml", (second, second))
        assert find_run("ring").name == newest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("abilen", "got none: abilen; did you mean abilene"),
        ("runs/rign", "got none: runs/rign; did you mean ring"),
        ("something else", "got none: something else; see the folders below runs/"),
        (
            "half",
            "expected a finished run in runs/half, got 1 unfinished; resume the newest by .*half/20261121T110458Z-s0",
        ),
    ],
)
def test_a_name_without_a_finished_run_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"evaluate: .*{message}") as error:
        run_directory("evaluate", name)
    assert "\n" not in str(error.value)
