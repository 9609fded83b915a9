"""Readouts: the sum is the sum of the agents' scores, local agents see their own block alone, votes are counted."""

import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn.ends.readout import LocalReadout, SumReadout, make_readout
from dist_hdnn.network.ownership import Ownership

WIDTHS = {"equal": np.array([4, 4, 4]), "unequal": np.array([2, 6, 4])}


def alone(widths: np.ndarray) -> Ownership:
    """A path of agents of these widths, in one process."""
    return Ownership(dist_hdnn.path(len(widths)), widths)


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_sum_is_the_sum_of_local_scores(widths: np.ndarray) -> None:
    total, local = SumReadout(alone(widths), 3), LocalReadout(alone(widths), 3)
    torch.nn.init.normal_(total.weight)
    with torch.no_grad():
        local.weight.copy_(total.weight)
    state = torch.randn(5, 12)
    torch.testing.assert_close(total(state), local(state).sum(dim=1))


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_local_scores_depend_on_the_own_block_alone(widths: np.ndarray) -> None:
    readout = LocalReadout(alone(widths), 3)
    torch.nn.init.normal_(readout.weight)
    state = torch.randn(5, 12, requires_grad=True)
    start = 0
    for agent, width in enumerate(widths):
        (gradient,) = torch.autograd.grad(readout(state)[:, agent].sum(), state)
        used = gradient.abs().sum(dim=0) > 0
        assert used.nonzero().flatten().tolist() == list(range(start, start + width))
        start += width


def test_local_loss_is_the_mean_over_agents() -> None:
    readout = LocalReadout(alone(np.array([2, 2])), 3)
    scores, labels = torch.randn(4, 2, 3), torch.tensor([0, 1, 2, 1])
    each = [torch.nn.functional.cross_entropy(scores[:, agent], labels) for agent in range(2)]
    torch.testing.assert_close(readout.loss(scores, labels).sum(), torch.stack(each).mean())


def test_majority_counts_votes_and_breaks_ties_by_confidence() -> None:
    readout = LocalReadout(alone(np.array([2, 2, 2, 2])), 3)
    sure, slight = [9.0, 0.0, 0.0], [0.0, 0.1, 0.0]
    scores = torch.tensor([[sure, slight, slight, slight], [sure, sure, slight, slight]])
    assert readout.predict(scores).tolist() == [1, 0]


@pytest.mark.parametrize("kind", ["sum", "local"])
def test_the_loss_of_a_regression_is_the_mean_over_samples_and_targets(kind: str) -> None:
    readout = make_readout(kind, alone(np.array([2, 2])), classes=2, regression=True)
    scores, targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    given = scores if kind == "sum" else scores[:, None].expand(2, 2, 2)
    assert float(readout.loss(given, targets).sum()) == (0 + 4 + 9 + 0) / 4
