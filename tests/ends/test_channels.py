"""Channels as neurons: the convolution, the order of pixels, and the same numbers whoever owns the channels."""

import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn import Execution
from dist_hdnn.ends.image_lift import ChannelLift, of_pixels
from dist_hdnn.ends.readout import make_readout
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.transport import run_threads

WIDTHS = np.array([2, 4, 2])
IMAGE = (4, 5, 2)
X = torch.randn(6, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.arange(6) % 3


def parts(transport=None, ordered=False, kind="sum"):
    """Lift and readout in float64, biases away from zero."""
    owned = Ownership(dist_hdnn.path(3), WIDTHS, transport, "round_robin", execution=Execution(deterministic=ordered))
    lift = ChannelLift(owned, IMAGE, kernel=3, seed=4).double()
    lift.load_state_dict({name: value + 0.1 for name, value in lift.state_dict().items()})
    return owned, lift, make_readout(kind, of_pixels(owned, lift.pixels), 3, seed=2).double()


def test_the_lift_is_a_convolution_and_every_pixel_a_sample() -> None:
    _, lift, _ = parts()
    images = X.view(6, 4, 5, 2).permute(0, 3, 1, 2)
    found = torch.conv2d(images, lift.filters.view(8, 2, 3, 3), lift.bias, padding=1)  # sample, neuron, row, column
    state = lift(X)
    assert state.shape == (6 * 20, 8)
    assert torch.allclose(state.view(20, 6, 8), found.flatten(2).permute(2, 0, 1), rtol=0, atol=1e-13)
    assert torch.allclose(lift.join(state), found.flatten(1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("kind", ["sum", "local"])
def test_workers_hold_their_channels_and_agree(kind: str, ordered: bool) -> None:
    def run(transport=None):
        torch.set_num_threads(1)
        owned, lift, readout = parts(transport, ordered, kind)
        loss = readout.loss(readout(lift.join(lift(X))), LABELS)
        loss.sum().backward()
        for parameter in [*lift.parameters(), *readout.parameters()]:
            parameter.data = parameter.data if parameter.grad is None else parameter.grad  # none for an empty bias
        told = torch.tensor(readout.reported_loss(loss), dtype=torch.float64)
        return {"loss": told, **lift.state_dict(), **readout.state_dict()}

    alone = run()
    for result in run_threads(3, run):
        gaps = [float((result[name] - alone[name]).abs().max()) for name in alone]
        assert max(gaps) <= (0.0 if ordered else 1e-12)
