"""The trained module: features -> sensors or learned lift -> network -> readout.

Shapes: features (batch, features); scores as the readout gives them.
"""

from __future__ import annotations

from torch import Tensor, nn

from dist_hdnn.data.sensors import SensorMap
from dist_hdnn.ends.image_lift import ChannelLift
from dist_hdnn.ends.initial_state import InitialState
from dist_hdnn.ends.lift import ConvLift, LinearLift
from dist_hdnn.ends.readout import Readout
from dist_hdnn.network.hdnn import HDNN


class AgentClassifier(nn.Module):
    """The sensors lift the features into the agents' states, the network moves them, the readout scores the classes.

    Several workers: each has its own part of all four, and the same features. initial_state: a learned constant for
    the neurons without a sensor; None starts them at zero. learned_lift: takes the place of both.
    """

    def __init__(
        self,
        sensors: SensorMap | None,
        network: HDNN,
        readout: Readout,
        initial_state: InitialState | None = None,
        learned_lift: LinearLift | ConvLift | ChannelLift | None = None,
    ) -> None:
        super().__init__()
        assert (sensors is None) != (learned_lift is None), "features enter by sensors or by a learned lift"
        self.sensors, self.network, self.readout, self.initial_state = sensors, network, readout, initial_state
        self.learned_lift = learned_lift

    def lift(self, x: Tensor) -> Tensor:
        """Lift features (batch, features) -> first state (batch, neurons), of channels (pixels x batch, neurons)."""
        if self.learned_lift is not None:
            state: Tensor = self.learned_lift(x)
            return state
        assert self.sensors is not None, "without a learned lift there are sensors"
        return self.sensors.lift(x, None if self.initial_state is None else self.initial_state())

    def forward(self, x: Tensor) -> Tensor:
        """Score features (batch, features)."""
        return self.scores(self.network(self.lift(x)))

    def down(self, samples: int) -> Tensor | None:
        """Tell which agents are down for which sample of the next evaluation, (samples, agents); None if none can be.

        Where every pixel is a sample of the network, an agent is down if it is for all of them.
        """
        pixels = self.learned_lift.pixels if isinstance(self.learned_lift, ChannelLift) else 1
        down = self.network.passage.down(pixels * samples)
        return None if down is None else down.view(pixels, samples, -1).all(dim=0)

    def scores(self, state: Tensor) -> Tensor:
        """Score the last state."""
        if isinstance(self.learned_lift, ChannelLift):
            state = self.learned_lift.join(state)
        scores: Tensor = self.readout(state)
        return scores
