"""Certificates of every architecture: no promise is broken, the JSON is complete, undecided is not broken."""

import json
import warnings
from dataclasses import replace
from typing import Any

import networkx as nx
import pytest
import torch

import dist_hdnn
from dist_hdnn.analysis.certificate import Certificate, certify
from dist_hdnn.analysis.promises import promises
from dist_hdnn.data.sensors import SensorMap, default_sensors
from dist_hdnn.dynamics.architectures import ARCHITECTURES
from dist_hdnn.ends.readout import make_readout
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import NonFiniteError

TWO_PARTS = ["gradients do not vanish", "gradients are bounded", "determinants are 1", "layers are invertible"]
SYMPLECTIC = [*TWO_PARTS[:2], "layers are symplectic", "network is symplectic", *TWO_PARTS[2:]]


def model_of(dtype: torch.dtype = torch.float64, readout: str = "local", **options: Any) -> AgentClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = dist_hdnn.HDNN(nx.cycle_graph(4), layers=5, step=0.3, dtype=dtype, **options)
    sensors = SensorMap(default_sensors(2, net.widths), net.widths, 2)
    return AgentClassifier(sensors, net, make_readout(readout, net.ownership, 2)).to(dtype)


def certificate_of(exact_up_to: int = 256, **options: Any) -> Certificate:
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return certify(model_of(**options), x, torch.tensor([0, 1, 1]), exact_up_to=exact_up_to)


@pytest.mark.parametrize("exact_up_to", [256, 0])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_architecture_breaks_a_promise(name: str, exact_up_to: int) -> None:
    found = certificate_of(exact_up_to, architecture=name)
    assert not found.broken
    one = ARCHITECTURES[name]
    expected = SYMPLECTIC if one.symplectic else TWO_PARTS if one.volume_preserving else TWO_PARTS[1:2]
    names = [promise.name for promise in found.promises]
    assert names == [name for name in expected if exact_up_to or name != "determinants are 1"]
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["kept"] is (True if all(promise.kept for promise in found.promises) else None)
    assert len(written["sensitivity"]["upper_bound"]) == len(written["stability"]["h_omega"]) == 5
    assert len(written["momentum"]["gradient_norm"]["largest"]) == 6
    assert (written["spectrum"]["spectral_radius"] is not None) == bool(exact_up_to)


@pytest.mark.parametrize("options", [{"activation": "gelu"}, {"activation": "sigmoid", "X": "neighbours"}])
@pytest.mark.parametrize("readout", ["sum", "gossip"])
def test_other_activations_readouts_and_interconnections_keep_them_too(options: dict[str, Any], readout: str) -> None:
    found = certificate_of(readout=readout, **options)
    assert [promise.name for promise in found.promises] == SYMPLECTIC
    assert all(promise.kept for promise in found.promises)


def test_the_gradient_of_a_sample_is_that_of_its_own_loss() -> None:
    model = model_of(readout="sum")
    x, labels = torch.randn(3, 2, dtype=torch.float64), torch.tensor([0, 1, 1])
    norms = certify(model, x, labels).momentum.norms
    for sample in range(3):
        y = model.lift(x[sample : sample + 1]).detach().requires_grad_()
        model.readout.loss(model.readout(model.network(y)), labels[sample : sample + 1]).sum().backward()
        assert y.grad is not None and float(norms[0, sample]) == pytest.approx(float(y.grad.norm()), rel=1e-12)


def test_a_lower_bound_below_one_is_undecided_and_an_exact_norm_below_one_is_broken() -> None:
    found = certificate_of()
    small = replace(found.measured, norms=0.5 * torch.ones_like(found.measured.norms))
    bounds = [1e9] * 5
    assert promises(ARCHITECTURES["MS1"], small, bounds, None)[0].kept is False
    assert promises(ARCHITECTURES["MS1"], replace(small, exact=False), bounds, None)[0].kept is None
    assert promises(ARCHITECTURES["mlp"], small, bounds, None)[0].name == "gradients are bounded"


@pytest.mark.parametrize("exact", [True, False])
def test_numbers_that_are_none_break_promises(exact: bool) -> None:
    """A network that overflows is not certified."""
    found = certificate_of()
    assert found.measured.residuals is not None
    nan = torch.full_like(found.measured.norms, torch.nan)
    broken = replace(
        found.measured, norms=nan, residuals=torch.full_like(found.measured.residuals, torch.nan), exact=exact
    )
    verdicts = {
        promise.name: promise.kept for promise in promises(ARCHITECTURES["hamiltonian"], broken, [1e9] * 5, 1e-16)
    }
    assert verdicts["gradients do not vanish"] is False and verdicts["gradients are bounded"] is False
    assert verdicts["layers are symplectic"] is False


def test_a_negative_determinant_breaks_its_promise() -> None:
    found = certificate_of().measured
    assert found.sign is not None
    verdicts = promises(ARCHITECTURES["MS1"], replace(found, sign=-found.sign), [1e9] * 5, None)
    assert [promise.kept for promise in verdicts if promise.name == "determinants are 1"] == [False]


def test_states_that_overflow_are_no_certificate() -> None:
    model = model_of(architecture="resnet", activation="softplus")
    with torch.no_grad():
        model.network.b.fill_(1e308)
    with pytest.raises(NonFiniteError, match="certify: expected finite states"):
        certify(model, torch.ones(1, 2, dtype=torch.float64), torch.tensor([0]))


def test_a_network_in_float32_is_refused() -> None:
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="certify: expected a network in float64, got torch.float32"):
        certify(model_of(torch.float32), x, torch.tensor([0]))


def test_the_way_back_is_measured_in_the_format_of_the_run_and_leaves_the_network_as_it_was() -> None:
    model = model_of(torch.float32).double()
    before = [parameter.detach().clone() for parameter in model.network.parameters()]
    x = torch.randn(3, 2, dtype=torch.float64)
    found = certify(model, x, torch.tensor([0, 1, 1]), run_dtype=torch.float32).figures["reversibility"]
    assert found["float64"]["relative"] < 1e-14 < 1e-9 < found["float32"]["relative"] < 1e-5
    assert all(torch.equal(a, b) for a, b in zip(before, model.network.parameters(), strict=True))
