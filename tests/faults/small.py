"""A small training with checkpoints on threads, which fault tests disturb: `trained`, and `same`, which compares."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import hdnn

import dist_hdnn
from dist_hdnn.data.sensors import SensorMap, default_sensors
from dist_hdnn.ends.initial_state import InitialState
from dist_hdnn.ends.readout import make_readout
from dist_hdnn.training.checkpoints.manifest import Manifest, read_manifest, verify
from dist_hdnn.training.checkpoints.saver import Saver
from dist_hdnn.training.checkpoints.schedule import Keeper
from dist_hdnn.training.checkpoints.snapshot import restore, whole_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import Recipe, TrainingState
from dist_hdnn.training.multilevel import Level, plan, train_levels
from dist_hdnn.transport import Transport, run_threads

AGENTS, BATCHES, EPOCHS = 6, 3, 4
STEPS = BATCHES * EPOCHS
IDENTITY = {"config": {"network": {"layers": 4}}, "graph": "ring", "data": "blobs"}
NIGHTLY = os.environ.get("FAULTS") == "nightly"  # the large counts of `make faults`

torch.set_num_threads(1)


def repetitions(usual: int, nightly: int) -> int:
    """How often a fault is tried: in every run of the tests, and by `make faults`."""
    times = nightly if NIGHTLY else usual
    tally.repetitions += times
    return times


@dataclass
class Tally:
    """Of the test that runs, for the table of faults. seconds: from each fault to the end of the job."""

    repetitions: int = 0
    seconds: list[float] = field(default_factory=list)


tally = Tally()


@dataclass(frozen=True)
class Setting:
    """What is trained. every: steps between two checkpoints. validated: validation data choose the final weights."""

    readout: str = "local"
    levels: tuple[int, ...] = ()
    deterministic: bool = True
    partition: str = "contiguous"
    every: int = 1
    keep: int = 1000
    validated: bool = False
    patience: int | None = None


@dataclass
class Result:
    """Of one worker: its model's whole weights, its records without times, and the last step it made."""

    weights: dict[str, torch.Tensor]
    history: list[dict[str, Any]]


def trained(
    folder: Path,
    workers: int = 1,
    setting: Setting = Setting(),
    start: Path | None = None,
    disturb: Callable[[int, TrainingState], None] = lambda rank, state: None,
    stop: Callable[[], str | None] = lambda: None,
    nonce: str = "start",
) -> list[Result]:
    """Train and save into `folder`, by so many threads, from the checkpoint `start`; the results by rank.

    disturb(rank, state) is called after every step, before the checkpoint of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return run_threads(workers, lambda transport: _work(transport, folder, setting, start, disturb, stop, nonce), 60.0)


def _work(
    transport: Transport,
    folder: Path,
    setting: Setting,
    start: Path | None,
    disturb: Callable[[int, TrainingState], None],
    stop: Callable[[], str | None],
    nonce: str,
) -> Result:
    levels = plan(setting.levels, 4, 0.5, EPOCHS)
    finest = classifier(transport, setting, levels[-1])
    ownership = finest.network.ownership
    saver = Saver(folder, transport.rank, transport.size, nonce, IDENTITY, {}, setting.keep, 30.0)
    keeper = Keeper(saver, ownership, setting.every, "steps", BATCHES, stop)

    def keep(state: TrainingState) -> None:
        disturb(transport.rank, state)
        keeper(state)

    recipe = Recipe(
        epochs=EPOCHS,
        batch_size=16,
        learning_rate=0.05,
        weight_decay=0.01,
        patience=setting.patience,
        smoothness=1e-3,
        log_gradients=True,
        seed=3,
        augment=noise,
    )
    callbacks: dict[str, Any] = {"keep": keep}
    if start is not None:
        manifest = read_manifest(start)
        verify(start, manifest)
        callbacks |= {"resumed": manifest.layers, "restore": lambda state: restore(state, start, manifest)}
    history = train_levels(
        levels,
        finest,
        lambda level: classifier(transport, setting, level),
        blobs(0),
        blobs(1) if setting.validated else None,
        recipe,
        **callbacks,
    )
    saver.finish()
    weights = {name: tensor.clone() for name, tensor in finest.state_dict().items()}
    return Result(weights, [asdict(record) | {"seconds": 0} for record in history])


def classifier(transport: Transport, setting: Setting, level: Level) -> AgentClassifier:
    """float64, agents of two widths; unless deterministic a learned initial state, whose bits depend on the workers."""
    net = hdnn(
        dist_hdnn.ring(AGENTS),
        width={agent: 2 + 2 * (agent % 2) for agent in range(AGENTS)},
        layers=level.layers,
        step=level.step,
        workers=transport if transport.size > 1 else None,
        partition=setting.partition,
        deterministic=setting.deterministic,
        dtype=torch.float64,
    )
    widths = net.ownership.all_widths
    sensors = SensorMap(default_sensors(2, widths), widths, 2)
    readout = make_readout(setting.readout, net.ownership, 2, seed=3).to(torch.float64)
    start = None if setting.deterministic else InitialState(sensors, net.ownership, torch.float64)
    return AgentClassifier(sensors.restricted(net.owned), net, readout, start)


def blobs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 48)
    return torch.from_numpy(rng.normal(size=(48, 2)) * 0.3 + 2.0 * labels[:, None] - 1.0), torch.from_numpy(labels)


def noise(features: torch.Tensor, step: int) -> torch.Tensor:
    """An augmentation: random, but a function of the step."""
    generator = torch.Generator().manual_seed(step)
    return features + 0.01 * torch.randn(features.shape, generator=generator, dtype=features.dtype)


def same(first: Path, second: Path) -> bool:
    """Whether two checkpoints hold the same bits, whoever wrote them: weights, optimizer, records."""
    one, two = (read_manifest(path) for path in (first, second))
    tensors, others = (whole(path, manifest) for path, manifest in ((first, one), (second, two)))
    if tensors.keys() != others.keys() or any(not torch.equal(tensors[name], others[name]) for name in tensors):
        return False
    return without_times(one.history) == without_times(two.history) and one.step == two.step


def gap(first: Path, second: Path) -> float:
    """Largest difference of two checkpoints' weights, moments and losses."""
    one, two = (read_manifest(path) for path in (first, second))
    tensors, others = (whole(path, manifest) for path, manifest in ((first, one), (second, two)))
    assert one.step == two.step and tensors.keys() == others.keys()
    losses = [abs(a["loss"] - b["loss"]) for a, b in zip(one.history, two.history, strict=True)]
    return max(
        [float((tensors[name] - others[name]).abs().max()) for name in tensors if tensors[name].numel()] + losses
    )


def whole(folder: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint but the sums that workers keep for themselves."""
    return whole_weights(folder, manifest, "")


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record | {"seconds": 0} for record in history]


def step_folder(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08d}"
