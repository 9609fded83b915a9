"""The certificate of networks over impaired links: what survives any loss, and what is then not promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from links.oracle import over
from networks import GRAPHS

from dist_hdnn.analysis.certificate import Certificate, certify
from dist_hdnn.analysis.measurements import layer_matrices, measure
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.data.sensors import SensorMap, default_sensors
from dist_hdnn.ends.readout import make_readout
from dist_hdnn.experiment import tasks
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.transport import Transport, run_threads

LOSSY: dict[str, Any] = {"seed": 1, "loss": (0.1, 0.9), "burst": (1.0, 3.0)}
CUT: dict[str, Any] = {"seed": 1, "outage": 0.3}
SYMPLECTIC = {"layers are symplectic", "network is symplectic"}


def certificate_of(
    columns: dict[str, Any], links: dict[str, Any], graph: str = "ring", exact_up_to: int = 256, **options: Any
) -> Certificate:
    net = over(GRAPHS[graph], columns, links, layers=5, step=0.3, **options)
    sensors = SensorMap(default_sensors(2, net.widths), net.widths, 2)
    model = AgentClassifier(sensors, net, make_readout("local", net.ownership, 2)).double()
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return certify(model, x, torch.tensor([0, 1, 1, 0, 1, 0]), exact_up_to=exact_up_to)


def kept(certificate: Certificate) -> set[str]:
    assert not certificate.broken
    return {promise.name for promise in certificate.promises}


@pytest.mark.parametrize("exact_up_to", [256, 0], ids=["matrices", "probes"])
@pytest.mark.parametrize("pair", ["exchange", "answer", "none"])
@pytest.mark.parametrize("fill", ["zero", "own"])
@pytest.mark.parametrize("integrator", ["semi_implicit", "stormer_verlet"])
def test_determinants_are_1_and_norms_at_least_1_under_any_loss(
    fill: str, pair: str, exact_up_to: int, integrator: str
) -> None:
    links = {"fill": fill, "pair": pair, "agent_outage": np.full(8, 0.1)}
    certificate = certificate_of(LOSSY, links, exact_up_to=exact_up_to, integrator=integrator, width=4)
    promised = kept(certificate)
    assert (promised >= SYMPLECTIC) == (fill == "zero" and pair == "exchange")
    assert {"gradients do not vanish", "gradients are bounded", "layers are invertible"} <= promised
    words = certificate.figures["network"]["links"]
    assert words.startswith("determinant 1") and ("not symplectic" in words) != (promised >= SYMPLECTIC)
    measured = certificate.measured
    if exact_up_to:
        assert measured.log_determinants is not None and measured.residuals is not None
        assert float(measured.log_determinants.abs().max()) <= 1e-10 and float(measured.norms.min()) >= 1 - 1e-9
        assert (float(measured.residuals.max()) <= 1e-10) == (promised >= SYMPLECTIC)


@pytest.mark.parametrize(
    ("columns", "links", "symplectic"),
    [
        (CUT, {}, True),
        (CUT, {"pair": "none"}, True),
        (CUT, {"dead": (2,), "agent_outage": np.full(8, 0.2)}, True),
        (CUT, {"fill": "own"}, False),
        ({"seed": 1, "outage": (0.0, 0.6)}, {}, False),  # each direction by itself
        ({"seed": 1, "outage": (0.0, 0.6)}, {"pair": "exchange"}, True),
        ({}, {"dead": (0, 1)}, True),
        ({"bits": 4}, {}, False),
        (LOSSY | {"bits": 4}, {"pair": "exchange"}, False),
        (LOSSY | {"bits_back": 4}, {"pair": "exchange"}, True),
        (LOSSY, {"pair": "exchange", "backward": "independent"}, True),
    ],
)
def test_symplecticity_is_promised_where_it_is_kept(columns: Any, links: Any, symplectic: bool) -> None:
    certificate = certificate_of(columns, links, width=4)
    assert (kept(certificate) >= SYMPLECTIC) == symplectic
    residuals = certificate.measured.residuals
    assert residuals is not None
    if symplectic:
        assert float(residuals.max()) <= 1e-12
    elif "bits" not in columns:
        assert float(residuals.max()) > 1e-6


@pytest.mark.parametrize(
    "options", [{"architecture": "leapfrog"}, {"X": "block_diagonal"}, {"architecture": "H1"}], ids=str
)
def test_other_architectures_keep_what_they_promise(options: dict[str, Any]) -> None:
    certificate = certificate_of(LOSSY, {"pair": "exchange"}, graph="grid", **options)
    assert (kept(certificate) >= SYMPLECTIC) == (options.get("architecture") != "H1")


def test_one_sample_meets_one_fate_in_all_columns_of_its_jacobian() -> None:
    net = over(GRAPHS["ring"], LOSSY, {"agent_outage": np.full(8, 0.2)}, layers=3)
    y = torch.randn(4, net.neurons, dtype=torch.float64)
    space = Space(net.ownership)
    matrices = layer_matrices(net, y, space, first=7)
    net.at(first=7)
    with net.linearize(y) as linear:
        for column in range(net.neurons):
            unit = torch.zeros_like(y)
            unit[:, column] = 1.0
            for layer in range(3):
                assert torch.allclose(linear.push(unit, layer, layer + 1), matrices[layer, :, :, column], atol=1e-13)


def test_samples_in_chunks_have_the_figures_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = over(GRAPHS["ring"], LOSSY, {}, layers=3)
    y = torch.randn(5, net.neurons, dtype=torch.float64)
    whole = measure(net, y, Space(net.ownership), 0)
    monkeypatch.setattr("dist_hdnn.analysis.measurements.NUMBERS", 2 * net.neurons**2 * net.layers)
    assert torch.allclose(measure(net, y, Space(net.ownership), 0).norms, whole.norms, atol=1e-12)


SHORT = ["--data.samples=400", "--train.epochs=1", "--network.layers=4", "--train.batch_size=50", "--plots=false"]
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "swiss_roll_ring8.yaml"


def certified(directory: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert tasks.train(read_config(CONFIG, [*SHORT, f"--output={directory}", *options])) is not None
    capsys.readouterr()
    assert main(["certify", str(directory), "--json"]) == 0
    alone: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert main(["certify", str(directory), "--json", "--workers=4", "--transport=threads"]) == 0
    for a, b in zip(alone["promises"], json.loads(capsys.readouterr().out)["promises"], strict=True):
        assert (a["name"], a["kept"]) == (b["name"], b["kept"]) and a["value"] == pytest.approx(b["value"], abs=1e-9)
    return alone


def test_a_run_over_lossy_links_is_certified_on_1_and_4_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = certified(tmp_path / "run", capsys, "--links.loss=0.3", "--links.pair=exchange")
    assert found["kept"] is True and SYMPLECTIC <= {promise["name"] for promise in found["promises"]}
    assert found["network"]["links"] == "determinant 1 and symplectic, whatever is lost"
    assert main(["certify", str(tmp_path / "run")]) == 0
    assert "determinant 1 and symplectic, whatever is lost" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--links.loss=0.2", "--links.fill=hold"], ["--links.delay=1"]], ids=str)
def test_of_links_that_remember_nothing_is_promised(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = certified(tmp_path / "run", capsys, *options)
    assert found["network"]["links"].startswith("nothing is promised over delays and fills that remember")


def test_1000_agents_on_1_and_4_workers_have_the_same_figures_and_keep_them() -> None:
    graph = nx.grid_2d_graph(25, 40, periodic=True)
    y = torch.randn(2, 2000, dtype=torch.float64)
    state = over(graph, {"loss": 0.3}, {"pair": "exchange"}, layers=4).state_dict()

    def work(transport: Transport | None) -> tuple[float, float]:
        net = over(graph, {"loss": 0.3}, {"pair": "exchange"}, layers=4, workers=transport)
        net.load_state_dict(state)
        measured = measure(net, net.local(y), Space(net.ownership), 0)
        assert measured.residuals is not None and measured.product_residual is not None
        assert float(measured.residuals.max()) <= 1e-10 and float(measured.product_residual.max()) <= 1e-10
        return float(measured.norms.min()), float(measured.norms.max())

    alone = work(None)
    assert alone[0] >= 1 - 1e-9
    for figures in run_threads(4, work, timeout=60):
        assert figures == pytest.approx(alone, rel=1e-9)
