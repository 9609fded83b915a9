"""F20: numbers that are not finite end all workers with code 6, and no checkpoint ever holds one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults.small import STEPS, Setting, repetitions, step_folder, trained

from dist_hdnn.training.checkpoints.manifest import candidates
from dist_hdnn.training.checkpoints.snapshot import opened
from dist_hdnn.training.loop import NonFiniteError, TrainingState
from dist_hdnn.transport import TransportError
from dist_hdnn.transport.channel import Channel

WORKERS, SEEING = 4, (0, 3)  # only the first and the last agent have a sensor
NAN, INF = float("nan"), float("inf")


class Poison:
    """Puts a value where it does not belong: on one worker, after one step."""

    def __init__(self, where: str, worker: int, step: int, value: float) -> None:
        self.where, self.worker, self.step, self.value = where, worker, step, value
        self.armed, self.reached = False, dict.fromkeys(range(WORKERS), 0)

    def __call__(self, rank: int, state: TrainingState) -> None:
        self.reached[rank] = state.step
        if rank != self.worker or state.step != self.step:
            return
        network = state.model.network
        if self.where == "parameter":
            with torch.no_grad():
                random.choice(list(network.parameters())).view(-1)[0] = self.value
        elif self.where == "gradient":
            network.bp.register_hook(lambda gradient: torch.full_like(gradient, self.value))
        elif self.where == "input":
            state.model.register_forward_pre_hook(lambda _, inputs: (torch.full_like(inputs[0], self.value),))
        else:
            self.armed = True

    def message(self, channel: Channel, wire: Any) -> None:
        """Before a channel sends."""
        slices = not any(word in wire.label for word in ("collective", "check"))
        if self.armed and channel._owner.rank == self.worker and channel.sent_bytes and slices:
            self.armed = False
            random.choice(wire.sends)[2].view(np.float64)[:] = self.value


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Poison]]:
    """The poison in use, which sees every message."""
    used: list[Poison] = []
    start = Channel.start

    def start_poisoned(channel: Channel) -> None:
        if used and channel._wire is not None:
            used[-1].message(channel, channel._wire)
        start(channel)

    monkeypatch.setattr(Channel, "start", start_poisoned)
    yield used


@pytest.mark.parametrize("readout", ["local", "sum"])
@pytest.mark.parametrize("where", ["input", "parameter", "message", "gradient"])
def test_F20_a_non_finite_number_ends_all_workers(
    where: str, readout: str, poison: list[Poison], tmp_path: Path
) -> None:
    random.seed(seed := random.randrange(2**32))
    print(f"seed {seed}")
    for turn in range(repetitions(1, 5)):
        step, folder = random.randrange(1, STEPS - 2), tmp_path / str(turn)
        worker = random.choice(SEEING if where == "input" else range(WORKERS))
        poison.append(Poison(where, worker, step, random.choice([NAN, INF])))
        with pytest.raises((NonFiniteError, TransportError)) as found:
            trained(folder, WORKERS, Setting(readout=readout), disturb=poison[-1])
        assert found.value.exit_code == 6, found.value
        assert max(poison[-1].reached.values()) <= step + 1  # nobody goes past the step that meets it
        assert poison[-1].reached[worker] <= step or where == "message"  # whoever meets it stops before its weights do
        for checkpoint, manifest in candidates(folder):
            assert manifest.step <= step
            with opened(checkpoint, manifest.files) as files:
                for file in files:
                    assert all(torch.isfinite(file.get_tensor(name)).all() for name in file.keys())


def test_F20_the_message_names_the_first_layer(tmp_path: Path) -> None:
    def disturb(rank: int, state: TrainingState) -> None:
        if state.step == 4:
            with torch.no_grad():
                state.model.network.Kp[0][2] = NAN

    with pytest.raises(NonFiniteError, match="epoch 2, step 5.*layer 3 of 4|in weights/network.Kp"):
        trained(tmp_path, 1, Setting(every=100), disturb=disturb)
    assert not step_folder(tmp_path, 5).exists()
