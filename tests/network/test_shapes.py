"""A tensor that does not fit is refused where the user gives it, in one line, and never broadcast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from own_loops import loop_on
from torch import Tensor

import dist_hdnn
from dist_hdnn.data.sensors import default_sensors
from dist_hdnn.ends.gossip import MetropolisAverage
from dist_hdnn.ends.image_lift import ChannelLift
from dist_hdnn.ends.lift import LinearLift
from dist_hdnn.ends.readout import LocalReadout, Readout, SumReadout
from dist_hdnn.network.ownership import Ownership

WIDTHS = np.array([2, 4, 2])
OWN = Ownership(dist_hdnn.path(3), WIDTHS)
STATE, LABELS = torch.ones(5, 8), torch.zeros(5, dtype=torch.int64)
READOUTS: list[Callable[..., Readout]] = [SumReadout, LocalReadout]


@pytest.mark.parametrize("readout", READOUTS)
def test_one_real_target_may_come_without_its_axis_and_learns_the_same(readout: Callable[..., Readout]) -> None:
    made = readout(OWN, 1, regression=True)
    scores, targets = made(torch.randn(5, 8)), torch.randn(5)
    each = (scores.reshape(5, -1) - targets[:, None]).square().mean()
    for given in (targets, targets[:, None]):
        torch.testing.assert_close(made.loss(scores, given).sum(), each)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("shape", [(5,), (4, 2), (5, 1), (1, 2), (2, 5), (5, 2, 1), ()])
def test_real_targets_of_another_shape_are_refused(readout: Callable[..., Readout], shape: tuple[int, ...]) -> None:
    made = readout(OWN, 2, regression=True)
    with pytest.raises(ValueError, match=r"expected real targets of shape \(5, 2\) .* got torch.float32"):
        made.loss(made(STATE), torch.zeros(shape))


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("shape", [(4,), (1,), (5, 1), (5, 3), (1, 5), ()])
def test_classes_of_another_shape_are_refused(readout: Callable[..., Readout], shape: tuple[int, ...]) -> None:
    made = readout(OWN, 3)
    with pytest.raises(ValueError, match=r"integer classes of shape \(5,\) or shares of shape \(5, 3\) .* torch.int64"):
        made.loss(made(STATE), torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("readout", READOUTS)
def test_classes_may_be_integers_of_any_width_or_shares(readout: Callable[..., Readout]) -> None:
    made, labels = readout(OWN, 3), torch.tensor([0, 1, 2, 1, 0])
    scores = made(torch.randn(5, 8))
    expected = made.loss(scores, labels)
    shares = torch.nn.functional.one_hot(labels, 3).to(scores.dtype)
    for given in (labels.to(torch.int32), labels.to(torch.uint8), shares):
        torch.testing.assert_close(made.loss(scores, given), expected)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("unknown", [3, -1])
def test_an_unknown_class_is_refused(readout: Callable[..., Readout], unknown: int) -> None:
    made = readout(OWN, 3)
    with pytest.raises(ValueError, match=rf"expected classes from 0 to 2, got another: Target {unknown} is out of"):
        made.loss(made(STATE), torch.full((5,), unknown))


def refused() -> dict[str, tuple[Callable[[], object], str]]:
    """What is called with a tensor that does not fit, and what it says."""
    loop = loop_on(None)
    net, y = loop.net, loop.states
    total, local = SumReadout(OWN, 3), LocalReadout(OWN, 3)
    lift = LinearLift(OWN, 2, np.array([0, 1, 2, 2]), np.array([0, 1]))
    channels = ChannelLift(OWN, (4, 4, 1))
    sensors = dist_hdnn.SensorMap(default_sensors(2, WIDTHS), WIDTHS, 2)
    linear = net.linearize(y)
    return {
        "readout, columns": (lambda: total(STATE[:, :6]), r"readout: expected a state of shape \(batch, 8\).*net\(y\)"),
        "readout, axes": (lambda: local(STATE[0]), r"readout: expected a state of shape \(batch, 8\), got \(8,\)"),
        "readout, dtype": (lambda: total(STATE.double()), "readout: expected a state of torch.float32.*float64"),
        "loss, scores": (lambda: total.loss(STATE, LABELS), r"expected scores of shape \(batch, 3\), got \(5, 8\)"),
        "local loss": (lambda: local.loss(torch.ones(5, 3), LABELS), r"scores of shape \(batch, 3, 3\), got \(5, 3\)"),
        "predict": (
            lambda: total.predict(torch.ones(5, 3, 3)),
            r"scores of shape \(batch, 3\), got \(5, 3, 3\)",
        ),
        "local predict": (lambda: local.predict(torch.ones(5, 3)), r"expected scores of shape \(batch, 3, 3\)"),
        "gossip": (lambda: MetropolisAverage(OWN, 1)(torch.ones(5, 2, 3)), r"values of shape \(batch, 3, values\)"),
        "lift, dtype": (lambda: lift(torch.ones(5, 2).double()), "lift: expected input of torch.float32 .*float64"),
        "lift, integers": (lambda: channels(torch.ones(5, 16).long()), "lift: expected input of torch.float32.*int64"),
        "lift, columns": (lambda: lift(torch.ones(5)), r"lift: expected input of shape \(batch, 2\), got \(5,\)"),
        "join": (
            lambda: channels.join(STATE),
            r"shape \(16 pixels x samples, neurons\), got \(5, 8\)",
        ),
        "constant": (
            lambda: sensors.lift(torch.ones(5, 2), torch.ones(1)),
            r"constant of shape \(8,\).*got \(1,\)",
        ),
        "sensors": (lambda: sensors.lift(torch.ones(2)), r"sensors: expected input of shape \(batch, 2\), got \(2,\)"),
        "network": (lambda: net(y[0]), r"HDNN: expected a state of shape \(batch, 24\), got \(24,\)"),
        "network, integers": (lambda: net(y.long()), "HDNN: expected a state of torch.float64 .*int64"),
        "states": (lambda: net.states(y.float()), "HDNN: expected a state of torch.float64 on cpu, got torch.float32"),
        "inverse": (lambda: net.inverse(y[:, :4]), r"HDNN: expected a state of shape \(batch, 24\), got \(10, 4\)"),
        "energy": (lambda: net.energy(y.t()), r"HDNN: expected a state of shape \(batch, 24\), got \(24, 10\)"),
        "fields": (lambda: net.fields([y, y[:, :4]]), r"HDNN: expected a state of shape \(batch, 24\), got \(10, 4\)"),
        "J": (lambda: net.apply_J(y.float()), "HDNN: expected a state of torch.float64 on cpu, got torch.float32"),
        "by_agent": (lambda: net.by_agent(y[0]), r"by_agent: expected a state of shape \(batch, 24\)"),
        "local": (lambda: net.local(y[0]), r"local: expected a state of the whole network, \(batch, 24\), got \(24,\)"),
        "push": (
            lambda: linear.push(y[:1], 0, 1),
            r"expected a vector of shape \(10, 24\), .* got \(1, 24\)",
        ),
        "pull": (
            lambda: linear.pull(y.float(), 1, 0),
            "expected a vector of .* torch.float64 .* torch.float32",
        ),
    }


@pytest.mark.parametrize("case", refused())
def test_a_tensor_that_does_not_fit_is_refused_in_one_line(case: str) -> None:
    call, message = refused()[case]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_batch_of_none_passes_and_has_no_gradient() -> None:
    loop = loop_on(None)
    y = loop.states[:0].requires_grad_()
    output: Tensor = loop.net(y)
    output.sum().backward()
    assert output.shape == (0, 24)
    assert all(p.grad is not None and not p.grad.any() for p in loop.net.parameters())
