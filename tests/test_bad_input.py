"""What users get wrong with data and studies ends the command with code 2 and one line, before anything is trained."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from images import write_idx_digits

from dist_hdnn.cli import main
from dist_hdnn.data.readers import idx
from dist_hdnn.data.readers.idx import PARTS

CONFIGS = Path(__file__).parents[1] / "configs"
TABLES = {
    "empty": "",
    "header": "a,b,label\n",
    "text": "a,b,label\n1,2,0\n1,oops,1\n3,4,0\n",
    "label": "a,b,label\n1,2,0\n3,4,1\n5,6,7\n",
}
STUDIES = {
    "axis": "axes: {network.layerz: [1, 2]}",
    "no trials": "search: random\ntrials: 0\naxes: {network.layers: [1, 2]}",
    "no values": "axes: {network.layers: []}",
    "no axes": "axes: {}",
}
DATA = {
    "missing": (["mnist", "--data.folder=nowhere"], "train-images-idx3-ubyte.gz in nowhere, got no such folder"),
    "missing anywhere": (["mnist"], "in data/mnist or "),
    "magic": (["idx", "--data.folder=magic"], "expected a magic number such as 0x0000"),
    "truncated": (["idx", "--data.folder=truncated"], "it is truncated, copy it again"),
    "cut": (["idx", "--data.folder=cut"], "expected a whole gzip file"),
    "hash": (["mnist", "--data.folder=good"], "expected the published content of mnist, got another sha256"),
    "empty table": (["file", "--data.file=empty.csv"], "expected samples, got an empty file"),
    "header alone": (["file", "--data.file=header.csv"], "expected samples below the header, got none"),
    "text": (["file", "--data.file=text.csv"], "expected a number, got 'oops' in line 3, column 'b'"),
    "label": (["file", "--data.file=label.csv", "--data.classes=2"], "expected labels 0 .. 1, got 7 at line 4"),
    "gap": (["file", "--data.file=label.csv"], "expected labels 0, 1, 2, ... without a gap, got 0, 1, 7"),
    "patch": (["digits", "--lift.rows=3", "--lift.columns=5"], "expected one patch for each of the 16 agents, got 3"),
    "agents": (["digits", "--graph.agents=100"], "more agents than pixels: expected a grid of at most 8 x 8 agents"),
}
ENDS = {
    "axis": "unknown key network.layerz; did you mean network.layers?",
    "no trials": "trials: expected an integer >= 1, got 0",
    "no values": "got none, so there are zero trials",
    "no axes": "expected at least one axis, got none, so there are zero trials",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory with broken files; no cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(idx, "CACHE", tmp_path / "cache")
    for name in ("good", "magic", "truncated", "cut"):
        path = write_idx_digits(tmp_path / name) / f"{PARTS['train_x']}.gz"
        content = gzip.decompress(path.read_bytes())
        broken = {"magic": b"\x01" + content[1:], "truncated": content[:-100]}.get(name, content)
        packed = gzip.compress(broken)
        path.write_bytes(packed[:-50] if name == "cut" else packed)
    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    return tmp_path


def check(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("dist-hdnn: error: ") and message in lines[0]


@pytest.mark.parametrize("case", DATA)
def test_bad_data_is_one_line_and_no_run(case: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (name, *options), message = DATA[case]
    assert main(["train", str(CONFIGS / "digits_grid16.yaml"), f"--data.name={name}", *options]) == 2
    check(message, capsys)
    assert not (files / "runs").exists()


@pytest.mark.parametrize("case", STUDIES)
def test_a_bad_study_is_one_line_and_no_trial(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(f"base: {CONFIGS / 'digits_grid16.yaml'}\n{STUDIES[case]}\n", encoding="utf-8")
    assert main(["study", str(study), f"--output={tmp_path / 'out'}"]) == 2
    check(ENDS[case], capsys)
    assert not (tmp_path / "out").exists()
