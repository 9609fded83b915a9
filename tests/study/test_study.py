"""A study of real runs, small enough for a test: what `train` says of itself is what the table needs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dist_hdnn.cli import main
from dist_hdnn.study.inputs import prepare_folder
from dist_hdnn.study.plan import read_plan


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
            "plots": False,
        },
        "axes": {"pattern": {"none": {"network.K.kind": "block_diagonal"}, "all": {"network.K.kind": "dense"}}},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["study", str(path), f"--output={tmp_path / 'out'}"]) == 0
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
        none, every = csv.DictReader(file)
    for row in (none, every):
        assert row["status"] == "done" and row["links"] == "4" and row["seed"] == "0"
        assert float(row["worst_agent_accuracy"]) <= float(row["mean_agent_accuracy"]) <= 1
        assert float(row["seconds_per_step"]) > 0 and int(row["peak_memory_bytes"]) > 1e6 and row["version_torch"]
    assert (none["bytes_per_step"], none["density"], none["links_used"], none["reach"]) == ("0", "0.0", "0", "0")
    assert [(row["diameter"], row["components"]) for row in (none, every)] == [("0", "4"), ("1", "1")]
    assert (every["density"], every["links_used"], every["reach"]) == ("1.0", "6", "8")
    assert int(every["messages_per_step"]) == 2 * 2 * 4 * 12
    assert len(list((tmp_path / "out" / "plots").glob("*.png"))) == 3


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_a_trial_that_was_killed_with_its_study_resumes_from_its_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"graph.agents": 4, "network.layers": 2, "data.samples": 400, "train.epochs": 100, "train.batch_size": 20}
    path = tmp_path / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({"config": small | {"checkpoint.every": "1 epochs", "plots": False}, "axes": {"seed": [0]}})
    )
    given = ["study", str(path), f"--output={tmp_path / 'out'}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    study = subprocess.Popen([sys.executable, "-m", "dist_hdnn", *given], env=environment)
    deadline = time.monotonic() + 120
    while not (kept := list(tmp_path.glob("out/trials/*/run/checkpoints/step_*[0-9]/manifest.json"))):
        assert study.poll() is None and time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.02)
    (run,) = {file.parents[2] for file in kept}
    study.kill()
    study.wait()
    os.kill(int((run / "lock").read_text().split()[1]), signal.SIGKILL)
    assert not (run / "summary.json").exists()
    assert main(given) == 0
    result = json.loads((run.parent / "result.json").read_text())
    step = result["resumed_after_step"]
    assert step >= 10 and result["summary"]["resumed_after_step"] == step and result["summary"]["steps"] == 1000 > step
    assert f"trial {run.parent.name} was stopped; it resumes after step {step}\n" in capsys.readouterr().err
    epochs = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 101))


def test_a_study_whose_data_have_changed_is_refused(tmp_path: Path) -> None:
    data, study, output = tmp_path / "d.csv", tmp_path / "s.yaml", tmp_path / "out"
    data.write_text("a,b,label\n1,2,0\n2,1,1\n3,5,0\n4,4,1\n")
    (tmp_path / "ring.edges").write_text("0 1\n1 2\n2 0\n")
    study.write_text(
        f"config: {{data: {{name: file, file: {data}, split: random}}}}\naxes: {{network.layers: [2, 4], "
        f"graph: {{ring: {{graph.file: {tmp_path / 'ring.edges'}}}}}}}\n"
    )
    plan = read_plan(str(study))
    prepare_folder(plan, output)
    prepare_folder(plan, output)
    (tmp_path / "ring.edges").write_text("0 1\n1 2\n")
    with pytest.raises(ValueError, match="holds a study with another graph.file .*ring.edges: that file has changed"):
        prepare_folder(plan, output)
    (tmp_path / "ring.edges").write_text("0 1\n1 2\n2 0\n")
    data.write_text(data.read_text() + "5,5,0\n")
    with pytest.raises(ValueError, match="holds a study with another data.file: that file has changed since"):
        prepare_folder(plan, output)
    known = json.loads((output / "study.json").read_text())
    (output / "study.json").write_text(json.dumps({key: known[key] for key in known if key != "files"}))
    prepare_folder(plan, output)  # one of an earlier version does not say
