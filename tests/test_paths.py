"""Paths as users write them: a home that does not exist is one line and exit code 2 wherever a path is taken."""

from pathlib import Path

import pytest

from dist_hdnn.cli import main
from dist_hdnn.config.paths import user_path

FILE = ["--data.name=file", "--data.split=random"]
TAKEN = {
    "output": ["train", "--output=~nosuchuser/run"],
    "resume": ["train", "--resume=~nosuchuser/run"],
    "graph": ["inspect", "--graph.file=~nosuchuser/g.edges"],
    "more graphs": ["inspect", '--more_graphs=[{"file": "~nosuchuser/g.edges"}]'],
    "data": ["inspect", *FILE, "--data.file=~nosuchuser/d.csv"],
    "folder": ["inspect", "--data.name=idx", "--data.folder=~nosuchuser/idx"],
    "pattern": ["inspect", "--network.K.kind=matrix", "--network.K.file=~nosuchuser/R.csv"],
    "run": ["evaluate", "~nosuchuser/run"],
}


@pytest.mark.parametrize("where", TAKEN)
def test_the_home_of_an_unknown_user_is_one_line_and_exit_code_2(where: str, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(TAKEN[where]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "no home directory of ~nosuchuser; correct the user" in line and not list(tmp_path.iterdir())


def test_a_path_below_the_own_home_is_that_path(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert user_path("~/d.csv", "data.file") == Path("/somewhere/d.csv")
    assert user_path("d~.csv", "data.file") == Path("d~.csv")
