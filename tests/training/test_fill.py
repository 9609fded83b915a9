"""What is put together from the files of a checkpoint is whole, and what goes into them is finite."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dist_hdnn.network.ownership import Shard
from dist_hdnn.training.checkpoints.manifest import CheckpointError
from dist_hdnn.training.checkpoints.saver import Saver
from dist_hdnn.training.checkpoints.snapshot import PLACES, fill
from dist_hdnn.training.loop import NonFiniteError


def files(folder: Path, *places: list[int]) -> list[object]:
    """Files that hold the entries 10 p of a vector at these places each, written as runs."""
    opened = []
    for number, mine in enumerate(places):
        path = folder / f"worker_{number}.safetensors"
        runs = torch.tensor([[place, 1] for place in mine]).reshape(-1, 2)
        save_file({"v": 10.0 * torch.tensor(mine), f"v{PLACES}": runs}, path)
        opened.append(safe_open(path, "pt"))
    return opened


def test_a_tensor_is_filled_from_all_files_that_hold_a_part_of_it(tmp_path: Path) -> None:
    target = torch.zeros(3)
    fill(target, Shard(0, 5, np.array([0, 2, 4])), "v", files(tmp_path, [0, 1], [2, 3, 4]))
    assert target.tolist() == [0.0, 20.0, 40.0]


def test_a_gap_between_the_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="1 entries of v are in none of its files"):
        fill(torch.zeros(3), Shard(0, 5, np.array([0, 2, 4])), "v", files(tmp_path, [0, 1], [2, 3]))


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    saver = Saver(tmp_path, 0, 1, "nonce", {}, {})
    for value in (float("nan"), float("inf")):
        with pytest.raises(NonFiniteError, match="expected finite numbers, got NaN or infinity in Kp.0 of worker 0"):
            saver._write(tmp_path / "part", {"Kp.0": torch.tensor([1.0, value])})
    assert not list(tmp_path.iterdir())
    assert saver._write(tmp_path / "part", {"Kp.0": torch.ones(2), "step": torch.tensor(3)})["bytes"] > 0
