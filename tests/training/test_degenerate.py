"""Figures of data that leave nothing to tell, constant targets or one class: runs finish, and JSON stays valid."""

import json
import math

import numpy as np
import pytest
import torch

from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.data import from_arrays
from dist_hdnn.experiment import tasks
from dist_hdnn.training.evaluation import evaluate

SMALL = ["--train.epochs=1", "--network.layers=2", "--graph.agents=4", "--plots=false"]


def strict(text: str) -> dict:
    """JSON as the standard has it: no NaN, no infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(("readout", "share"), [("sum", 0.0), ("local", 0.3)])
def test_a_regression_of_constant_targets_finishes_and_says_so(readout: str, share: float, tmp_path, capsys) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    np.savez(tmp_path / "c.npz", x=x, y=np.full(30, 0.1))
    file = ["--data.name=file", f"--data.file={tmp_path / 'c.npz'}", "--data.split=random", "--data.task=regression"]
    run = tmp_path / "run"
    file += [f"--data.validation_fraction={share}", "--train.epochs=2", "--checkpoint.every=1 epoch"]
    assert main(["train", *SMALL, *file, f"--readout.kind={readout}", f"--output={run}"]) == 0
    printed = capsys.readouterr()
    assert "undefined" in printed.out
    assert "all targets of the test part are equal, so its R² is undefined" in " ".join(printed.err.split())
    summary = strict((run / "summary.json").read_text())
    assert summary["test_r2"] is None and math.isfinite(summary["loss"])
    assert all(strict(line)["train_r2"] is None for line in (run / "metrics.jsonl").read_text().splitlines())
    for more in ([], ["--json"]):
        assert main(["evaluate", str(run), *more]) == 0
    assert strict(capsys.readouterr().out.split("\n{", 1)[-1].join(["{", ""]))["test_r2"] is None


def test_r2_of_constant_targets_is_undefined_and_of_others_as_it_was() -> None:
    config = read_config(None, ["--data.name=diabetes", "--readout.kind=local", "--network.width=4"])
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data)
    x, y = tasks.split_tensors(config, data, "test")
    constant, usual = evaluate(model, x, torch.zeros_like(y)), evaluate(model, x, y)
    rounded = evaluate(model, x, torch.full_like(y, 0.1))
    assert math.isnan(rounded.accuracy) and math.isnan(constant.accuracy) and math.isfinite(constant.loss)
    assert all(map(math.isnan, constant.per_agent)) and math.isnan(constant.mean_agent)
    assert usual.accuracy < 1 and all(map(math.isfinite, usual.per_agent))


def test_parts_of_one_class_and_of_one_sample_are_measured_and_said() -> None:
    with pytest.warns(UserWarning, match="mine: all samples of the test part are of one class"):
        data = from_arrays(np.eye(4), [0, 1, 1, 1], name="mine", split="last", test_fraction=0.5)
    config = read_config(None, ["--graph.agents=4", "--network.layers=2"])
    model = assembly.build_classifier(config, data)
    x, y = tasks.split_tensors(config, data, "test")
    for count in (2, 1):
        assert evaluate(model, x[:count], y[:count]).accuracy in (0.0, 0.5, 1.0)
