"""A study of real runs, small enough for a test: what `train` says of itself is what the table needs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from dist_hdnn.cli import main


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(300)
def test_a_study_of_real_runs_has_a_complete_table(tmp_path: Path) -> None:
    document = {
        "config": {
            "graph.agents": 4,
            "network.layers": 2,
            "data.samples": 80,
            "train.epochs": 1,
            "readout.kind": "local",
        },
        "axes": {"pattern": {"none": {"network.K.kind": "block_diagonal"}, "all": {"network.K.kind": "dense"}}},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["study", str(path), f"--output={tmp_path / 'out'}"]) == 0
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
        none, every = csv.DictReader(file)
    for row in (none, every):
        assert row["status"] == "done" and row["links"] == "4" and row["diameter"] == "2" and row["seed"] == "0"
        assert float(row["worst_agent_accuracy"]) <= float(row["mean_agent_accuracy"]) <= 1
        assert float(row["seconds_per_step"]) > 0 and int(row["peak_memory_bytes"]) > 1e6 and row["version_torch"]
    assert (none["bytes_per_step"], none["density"], none["links_used"], none["reach"]) == ("0", "0.0", "0", "0")
    assert (every["density"], every["links_used"], every["reach"]) == ("1.0", "6", "8")
    assert int(every["messages_per_step"]) == 2 * 2 * 4 * 12
    assert len(list((tmp_path / "out" / "plots").glob("*.png"))) == 3
