"""Weights in time: one set for all layers, and linear interpolation between knots, with gradients of the knots."""

from typing import Any

import networkx as nx
import pytest
import torch
from networks import FAMILY, network, quiet_graph, uneven_widths

import dist_hdnn
from dist_hdnn.network.time_course import TimeCourse


def test_knots_are_interpolated_linearly_and_hold_both_ends() -> None:
    course = TimeCourse(3, layers=9, stages=1)
    knots = torch.tensor([[0.0, 1.0], [4.0, -1.0], [2.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([0, 1, 2, 3, 4, 3.5, 3, 2.5, 2], dtype=torch.float64)
    torch.testing.assert_close(course(knots, 0)[:, 0], expected, rtol=0, atol=1e-15)
    assert torch.equal(course(knots)[[0, -1]], knots[[0, -1]])
    all_knots = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(TimeCourse(5, layers=5, stages=1)(all_knots), all_knots)
    assert torch.equal(TimeCourse("shared", layers=1, stages=1)(all_knots[:1]), all_knots[:1])


@pytest.mark.parametrize("time", ["shared", 2, 3])
@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_a_network_in_time_is_the_free_network_of_its_layers_weights(options: dict[str, Any], time: str | int) -> None:
    graphs: Any = quiet_graph("path")
    if time == 3 and options.get("X") != "neighbours":
        graphs = [nx.cycle_graph(5), nx.path_graph(5)]
    arguments = {"width": uneven_widths(5), "layers": 5, "step": 0.3, **options}
    net = network(graphs, time=time, **arguments)
    free = network(graphs, **arguments)
    weights = net.weights()
    with torch.no_grad():
        for name, tensors in free.weights().items():
            for ours, theirs in zip(weights[name], tensors, strict=True):
                theirs.copy_(ours)
    y = torch.randn(3, net.neurons, dtype=torch.float64)
    assert torch.equal(net(y), free(y))
    net(y).square().sum().backward()
    free(y).square().sum().backward()
    for name, parameter in net.named_parameters():
        twin = dict(free.named_parameters())[name]
        assert parameter.grad is not None and twin.grad is not None
        if parameter.shape == twin.shape:  # X and J are for all layers anyway
            torch.testing.assert_close(parameter.grad, twin.grad)
            continue
        assert len(parameter) == (1 if time == "shared" else time)
        course, stage = net._course, int(name.partition(".")[2]) if "." in name else None
        knots = parameter.detach().clone().requires_grad_()
        (expected,) = torch.autograd.grad(course(knots, stage), knots, twin.grad)
        torch.testing.assert_close(parameter.grad, expected)


def test_smoothness_acts_on_the_weights_of_the_layers() -> None:
    assert network(quiet_graph("ring"), layers=6, time="shared").smoothness().item() == 0.0
    net = network(quiet_graph("ring"), layers=7, time=3, step=0.2)
    squares = sum((tensor[1:] - tensor[:-1]).square().sum() for tensors in net.weights().values() for tensor in tensors)
    torch.testing.assert_close(net.smoothness(), 0.1 * squares)


def test_shared_weights_do_not_grow_with_the_number_of_layers() -> None:
    counts = [
        sum(p.numel() for p in dist_hdnn.HDNN(dist_hdnn.ring(8), layers=layers, time="shared").parameters())
        for layers in (8, 64)
    ]
    assert counts[0] == counts[1] == 64
