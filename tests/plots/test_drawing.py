"""No error of a picture ends what is finished, and nobody's matplotlibrc changes a picture."""

import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from dist_hdnn.cli import main
from dist_hdnn.data import Sensor
from dist_hdnn.plots import figures
from dist_hdnn.plots.curves import plot_curves
from dist_hdnn.plots.drawing import Pictures, own_style, pictures, plain
from dist_hdnn.plots.graph import plot_graph
from dist_hdnn.topology.graphs import CommunicationGraph

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("US$a_$", "$x$", r"\$b", "a\n\nb", "\ud800", "駅", "北京", "x" * 40, "_hidden", "100 %", "{", "")
TRAIN = ["train", "--train.epochs=1", "--data.samples=40", "--network.layers=2"]


def odd_graph() -> CommunicationGraph:
    links = np.array([(i, i + 1) for i in range(len(NAMES) - 1)])
    return CommunicationGraph("of $odd_ names", NAMES, links)


def test_any_name_is_drawn_as_it_is(tmp_path: Path, saved: list[Figure]) -> None:
    album = Pictures(tmp_path)
    sensors = [Sensor(0, 0, "q")]
    album.draw("graph.png", plot_graph, odd_graph(), sensors, np.linspace(0, 1, len(NAMES)), feature_names=["$f_"])
    assert not album.failed and album.drawn == [tmp_path / "graph.png"]
    texts = [text.get_text() for text in saved[0].axes[0].texts]
    written = " ".join(text.replace(r"\$", "$") for text in texts)
    assert "US$a_$" in written and "$f_ → q" in written and "a b" in written and "駅" in written
    assert saved[0].axes[0].get_title().startswith(r"of \$odd_ names")
    assert len(album.remarks) <= 1, "one remark at most about characters that no font has"


@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_formula_sign_of_a_name_is_written_and_not_read(tmp_path: Path) -> None:
    figure = figures.new_figure(3, 2)
    for name in NAMES:
        figure.text(0.1, 0.1, plain(name))
    figures.save(figure, tmp_path / "names.png")
    shown = [text._preprocess_math(text.get_text()) for text in figure.texts]  # type: ignore[attr-defined]
    assert [text for text, _ in shown[:3]] == list(NAMES[:3]) and not any(formula for _, formula in shown)


def test_a_matplotlibrc_changes_no_picture(tmp_path: Path) -> None:
    def draw(path: Path) -> bytes:
        with own_style():
            return plot_curves([{"epoch": 0, "loss": 1.0, "train_accuracy": 0.5}], path).read_bytes()

    before = draw(tmp_path / "a.png")
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert draw(tmp_path / "b.png") == before
        assert matplotlib.rcParams["text.usetex"], "what the user has set comes back"


def test_what_fails_is_one_warning_and_leaves_no_half_picture(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pictures(tmp_path) as album:
            album.draw("a.png", full)
            album.draw("b.png", full)
            album.draw("c.png", lambda path: path.write_bytes(b"whole"))
    assert album.drawn == [tmp_path / "c.png"] and not (tmp_path / "a.png").exists()
    (warning,) = said
    assert str(warning.message) == (
        f"pictures: not drawn in {tmp_path}: a.png, b.png: OSError: [Errno 28] No space left on device"
    )


def test_a_remark_on_a_picture_is_said_once_and_one_on_the_network_not_again(tmp_path: Path) -> None:
    def remarked(path: Path) -> None:
        warnings.warn_explicit("too many bins", UserWarning, "/lib/matplotlib/axes.py", 1)
        warnings.warn_explicit("no room", UserWarning, "/lib/dist_hdnn/plots/graph.py", 1)
        warnings.warn_explicit("the graph is disconnected", UserWarning, "/lib/dist_hdnn/topology/graphs.py", 1)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pictures(tmp_path) as album:
            album.draw("a.png", remarked)
            album.draw("b.png", remarked)
    assert [str(warning.message) for warning in said] == [
        f"pictures in {tmp_path}: too many bins",
        f"pictures in {tmp_path}: no room",
    ]


def test_what_cannot_be_imported_is_one_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="missing in .*: ImportError: no matplotlib"), pictures(tmp_path):
        raise ImportError("no matplotlib")


def test_an_interruption_is_no_error_of_a_picture(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pictures(tmp_path) as album:
        album.draw("a.png", interrupted)


def test_a_run_whose_pictures_fail_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such font")

    monkeypatch.setattr("dist_hdnn.plots.figures.FigureCanvasAgg", broken)
    run = tmp_path / "run"
    assert main([*TRAIN, f"--output={run}"]) == 0
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1 and "RuntimeError: no such font" in lines[0] and "graph.png" in lines[0]
    assert json.loads((run / "report.json").read_text()) == {"status": "done", "exit_code": 0}
    assert main(["certify", str(run), "--samples=2"]) == 0
    assert "RuntimeError: no such font" in capsys.readouterr().err


@pytest.mark.processes
def test_a_run_is_drawn_with_any_backend_and_any_matplotlibrc(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: TkAgg\n")
    (tmp_path / "d.csv").write_text("source,target\nUS$a_$,駅\n駅,c\n", encoding="utf-8")
    command = [sys.executable, "-m", "dist_hdnn", *TRAIN, "--graph.file=d.csv", "--output=o"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "nowhere"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert {"graph.png", "decision.png"} <= {path.name for path in (tmp_path / "o" / "plots").iterdir()}
    assert done.stderr.count("warning") <= 1 + done.stderr.count("font"), done.stderr


def test_pyplot_is_never_used(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom dist_hdnn.experiment import pictures\n"
        "from dist_hdnn.plots import certificate\nfrom dist_hdnn.study import plots\n"
        "pictures.plot_curves([{'loss': 1.0}], Path('curves.png'))\nassert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.png").exists()
