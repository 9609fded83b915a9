"""`dist-hdnn certify`: kept and broken promises, the same figures on any number of workers, files, one-line errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dist_hdnn.analysis import certificate
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import certify, tasks

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["--data.samples=400", "--train.epochs=2", "--network.layers=4", "--train.batch_size=50"]


def short_run(directory: Path, *options: str, plots: str = "false") -> Path:
    given = [*SHORT, f"--output={directory}", f"--plots={plots}", *options]
    config = read_config(ROOT / "configs" / "swiss_roll_ring8.yaml", given)
    made = tasks.train(config)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_run(tmp_path_factory.mktemp("runs") / "local", "--train.log_gradients=true", plots="true")


def certified(capsys: pytest.CaptureFixture[str], directory: Path, *options: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["certify", str(directory), "--json", *options]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_hamiltonian_run_keeps_every_promise(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = certified(capsys, run)
    assert found["kept"] is True
    names = [promise["name"] for promise in found["promises"]]
    assert names == [
        "gradients do not vanish",
        "gradients are bounded",
        "layers are symplectic",
        "network is symplectic",
        "determinants are 1",
        "layers are invertible",
    ]
    assert all(promise["kept"] is True and promise["verdict"] == "kept" for promise in found["promises"])
    norms = found["sensitivity"]
    assert len(norms["smallest"]) == len(norms["upper_bound"]) == 4 == len(found["stability"]["h_omega"])
    assert all(
        1 <= a <= b <= c for a, b, c in zip(*(norms[k] for k in ("smallest", "largest", "upper_bound")), strict=True)
    )
    assert found["stability"]["limit"] == pytest.approx(2.0)
    assert found["reversibility"]["float64"]["relative"] < 1e-12 < found["reversibility"]["float32"]["relative"] < 1e-4
    assert found["network"]["samples"] == 16 and found["method"] == "whole matrices"
    assert json.loads((run / "certificate.json").read_text()) == found
    for name in ("sensitivity", "layers", "momentum"):
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_names_every_promise_and_the_pictures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["certify", str(run), "--samples", "3"]) == 0
    captured = capsys.readouterr()
    for words in (
        "gradients do not vanish",
        "kept",
        ">= 0.999999999",
        "semi_implicit",
        str(run / "plots"),
    ):
        assert words in captured.out
    assert captured.err == "" and "BROKEN" not in captured.out


def test_a_broken_promise_is_told_loudly_and_ends_with_exit_code_8(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sensitivity that shrinks and is not symplectic, as a wrong adjoint would give."""
    from dist_hdnn.analysis import measurements
    from dist_hdnn.analysis.vectors import Space

    true = measurements.layer_matrices

    def wrong(network: Any, y: torch.Tensor, space: Space, first: int) -> torch.Tensor:
        return 0.1 * true(network, y, space, first)

    monkeypatch.setattr(measurements, "layer_matrices", wrong)
    capsys.readouterr()
    assert main(["certify", str(run)]) == 8
    captured = capsys.readouterr()
    assert captured.out.count("BROKEN") == 4
    assert captured.err.count("\n") == 1 and "4 of 6 promises BROKEN: gradients do not vanish" in captured.err


def numbers(value: Any, path: str = "") -> dict[str, float]:
    """Every number of a certificate by its place."""
    if isinstance(value, dict):
        return {k: v for key, entry in value.items() for k, v in numbers(entry, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, entry in enumerate(value) for k, v in numbers(entry, f"{path}[{i}]").items()}
    return {path: float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else {}


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Equal to 1e-9, and to 1e-12 what is rounding itself."""
    one, two = numbers(first), numbers(second)
    assert one.keys() == two.keys()
    for place in one:
        assert one[place] == pytest.approx(two[place], rel=1e-9, abs=1e-12), place
    assert [p["verdict"] for p in first["promises"]] == [p["verdict"] for p in second["promises"]]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("exact_up_to", [256, 0])
def test_workers_do_not_change_the_figures(
    run: Path, workers: int, exact_up_to: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certify, "draw", lambda found, plots: None)  # most of the time, and tested above
    true = certificate.measure
    monkeypatch.setattr(certificate, "measure", lambda n, y, s, seed, _: true(n, y, s, seed, exact_up_to))
    alone = certified(capsys, run)
    assert alone["method"] == ("whole matrices" if exact_up_to else "random probes")
    several = certified(capsys, run, f"--workers={workers}", "--transport=threads")
    assert several["reversibility"].pop("float32").keys() == alone["reversibility"].pop("float32").keys()
    assert_same(alone, several)


@pytest.mark.processes
@pytest.mark.parametrize("transport", ["gloo"])
def test_processes_certify_as_one_does(run: Path, transport: str, capsys: pytest.CaptureFixture[str]) -> None:
    alone = certified(capsys, run)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [
        sys.executable,
        "-m",
        "dist_hdnn",
        "certify",
        str(run),
        "--json",
        "--workers=2",
        f"--transport={transport}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    several = json.loads(done.stdout)
    del alone["reversibility"]["float32"], several["reversibility"]["float32"]
    assert_same(alone, several)


@pytest.mark.processes
def test_of_several_processes_a_broken_promise_has_its_exit_code_too(tmp_path: Path) -> None:
    """Broken by hand: a limit of 0 for the residuals."""
    directory = short_run(tmp_path / "run")
    program = (
        "import sys; from dist_hdnn.analysis import promises; promises.RESIDUAL = 0.0; "
        "from dist_hdnn import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    script = tmp_path / "certify.py"
    script.write_text(program, encoding="utf-8")
    launch = (
        "import sys; from dist_hdnn.launching import launcher; real = launcher.launch; "
        f"launcher.launch = lambda a, c, r, program: real(['certify', *a], c, r, ({str(script)!r},)); "
        "from dist_hdnn import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-c", launch, "certify", str(directory), "--workers=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 8, (done.stdout, done.stderr)
    assert "layers are symplectic" in done.stdout and "BROKEN" in done.stdout and "promises BROKEN" in done.stderr


def test_an_architecture_without_promises_is_measured_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = short_run(tmp_path / "run", "--network.architecture=mlp", "--network.initial_scale=0.3")
    found = certified(capsys, directory)
    assert [promise["name"] for promise in found["promises"]] == ["gradients are bounded"]
    assert found["symplecticity"] is None and found["reversibility"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "certify: expected RUN, got nothing"),
        (("nowhere",), "certify: expected a run directory, got none: nowhere"),
        (("{run}", "--samples=0"), "certify: --samples: expected a whole number >= 1, got '0'"),
        (("{run}", "--sample=4"), "certify: unknown option --sample; did you mean --samples?"),
        (("{run}", "--workers=9", "--transport=threads"), "expected at most 8 workers"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["certify", *(option.format(run=run) for option in options)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_damaged_weights_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = short_run(tmp_path / "run")
    weights = load_file(directory / tasks.FINAL)
    weights.pop("readout.bias")
    save_file(weights, directory / tasks.FINAL)
    capsys.readouterr()
    assert main(["certify", str(directory)]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_gradient_norms_of_every_layer_are_in_the_metrics(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [len(line["gradient_norms"]) for line in lines] == [4, 4]
    assert all(norm > 0 for line in lines for norm in line["gradient_norms"])
    assert (run / "plots" / "gradients.png").read_bytes().startswith(b"\x89PNG")
