"""A run over impaired links resumes as if nothing had happened, because fates depend on the step alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from dist_hdnn.build.assembly import build_network
from dist_hdnn.build.inputs import build_dataset
from dist_hdnn.cli import main
from dist_hdnn.config import Config, run_identity
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.experiment.tasks import FINAL
from dist_hdnn.run.directory import config_of_run
from dist_hdnn.run.handshake import identity_of
from dist_hdnn.training.checkpoints.manifest import CheckpointError, check_identity, read_manifest

Numbers = tuple[list[float], dict[str, bytes]]
CONFIG = Path(__file__).parents[2] / "configs" / "swiss_roll_ring8.yaml"
SHORT = ["--data.samples=200", "--train.epochs=3", "--network.layers=3", "--train.batch_size=25", "--plots=false"]
LINKS = {
    "zero": ["--links.loss=0.3", "--links.burst=2", "--links.failout=0.5", "--links.ramp=grow", "--links.bits=5"],
    "predict": ["--links.loss=0.2", "--links.delay=[0,2]", "--links.fill=predict", "--links.ramp=uniform"],
    "schedule": ["--links.loss=0.2", '--links.strengths={"0": 0.1, "7": 1.0}', "--links.rounding=stochastic"],
}


def trained(directory: Path, *options: str) -> Numbers:
    """Losses and accuracies of all epochs, and all weights."""
    config = read_config(CONFIG, [*SHORT, "--network.width=4", f"--output={directory}", *options])
    assert tasks.train(config) is not None
    return read(directory)


def read(directory: Path) -> Numbers:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    weights = {name: value.numpy().tobytes() for name, value in load_file(directory / FINAL).items()}
    return [line[key] for line in lines for key in ("loss", "train_accuracy")], weights


def checkpoint(directory: Path, step: int) -> Path:
    return directory / "checkpoints" / f"step_{step:08d}"


@pytest.mark.parametrize("name", LINKS)
def test_a_resumed_run_ends_with_the_bits_of_an_undisturbed_one(name: str, tmp_path: Path) -> None:
    options = [*LINKS[name], "--checkpoint.every=5 steps", "--checkpoint.keep=9"]
    whole = trained(tmp_path / "whole", *options)
    for step in (5, 10):
        resumed = trained(tmp_path / f"from {step}", *options, f"--resume={checkpoint(tmp_path / 'whole', step)}")
        assert json.loads((tmp_path / f"from {step}" / "summary.json").read_text())["resumed_after_step"] == step
        assert resumed == whole


def test_so_does_one_that_resumes_on_other_workers(tmp_path: Path) -> None:
    options = [*LINKS["zero"], "--checkpoint.every=5 steps", "--deterministic=true"]
    whole = trained(tmp_path / "whole", *options)
    start = f"--resume={checkpoint(tmp_path / 'whole', 10)}"
    command = ["train", str(CONFIG), *SHORT, "--network.width=4", f"--output={tmp_path / 'more'}", *options, start]
    assert main([*command, "--workers=3", "--transport=threads"]) == 0
    assert read(tmp_path / "more") == whole


def test_a_run_resumes_over_its_own_links_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "whole", "--checkpoint.every=5 steps")  # as runs were before there were links
    start = f"--resume={checkpoint(tmp_path / 'whole', 5)}"
    command = ["train", str(CONFIG), *SHORT, "--network.width=4", f"--output={tmp_path / 'more'}", start]
    assert main([*command, "--links.loss=0.1"]) != 0
    assert "links.loss" in capsys.readouterr().err
    assert main([*command, "--links.latency=5 ms"]) != 0, "it is another run, whose numbers are the same"


def test_checkpoints_of_before_there_were_links_are_of_runs_without(tmp_path: Path) -> None:
    trained(tmp_path / "whole", "--checkpoint.every=5 steps")
    folder = checkpoint(tmp_path / "whole", 5)
    manifest = read_manifest(folder)
    options = {key: value for key, value in manifest.identity["config"].items() if key != "links"}
    old = replace(manifest, identity=manifest.identity | {"config": options})
    usual = {"config": run_identity(Config())}
    check_identity(folder, old, manifest.identity, usual)
    lossy = run_identity(read_config(CONFIG, ["--links.loss=0.1", "--links.dead=[1]"]))["links"]
    with pytest.raises(CheckpointError, match=r"config\.links\.dead"):
        check_identity(folder, old, manifest.identity | {"config": options | {"links": lossy}}, usual)


def of_file(folder: Path, loss: float, *options: str) -> list[str]:
    """Options of a run whose graph and losses are those of a table in the folder."""
    ring = [f"{i},{(i + 1) % 8},{loss if i % 2 else 0.5}" for i in range(8)]
    (folder / "ring.csv").write_text("\n".join(["source,target,loss", *ring]), "utf-8")
    graph = [f"--graph.file={folder / 'ring.csv'}", "--graph.format=csv", "--links.read=true"]
    return [*SHORT, "--network.width=4", f"--output={folder / 'run'}", *graph, *options]


def test_a_run_keeps_the_link_data_that_it_has_read(tmp_path: Path) -> None:
    config = read_config(CONFIG, of_file(tmp_path, 0.9))
    assert tasks.train(config) is not None
    before = build_network(config).links
    (tmp_path / "ring.csv").unlink()
    after = build_network(config_of_run(tmp_path / "run")).links
    assert before is not None and after is not None and 0.9 in before.table.loss
    for name in ("sender", "receiver", "latency", "jitter", "bandwidth", "loss", "burst"):
        assert (getattr(before.table, name) == getattr(after.table, name)).all()


def test_a_run_does_not_resume_over_other_link_data(tmp_path: Path) -> None:
    identities = []
    for loss in (0.9, 0.1):
        config = read_config(CONFIG, of_file(tmp_path, loss))
        identities.append(identity_of(config, build_network(config), build_dataset(config)))
    assert identities[0]["config"] == identities[1]["config"] and identities[0]["graph"] != identities[1]["graph"]


def test_an_option_that_contradicts_the_file_is_refused_and_a_rule_overrides_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="links.loss: expected one source, got 0.2 there and another value in"):
        build_network(read_config(CONFIG, of_file(tmp_path, 0.9, "--links.loss=0.2")))
    links = build_network(read_config(CONFIG, of_file(tmp_path, 0.9, "--links.rules=[{loss: 0.2}]"))).links
    assert links is not None and (links.table.loss == 0.2).all()


def test_a_file_without_link_data_is_named_in_a_warning(tmp_path: Path) -> None:
    options = of_file(tmp_path, 0.9)
    (tmp_path / "ring.csv").write_text((tmp_path / "ring.csv").read_text("utf-8").replace("loss", "Lost"), "utf-8")
    with pytest.warns(UserWarning, match=r"links\.read: expected link data in .*, got none: bandwidth of 0 of 8"):
        assert build_network(read_config(CONFIG, options)).links is None


def test_rules_by_attribute_hold_for_the_run_too(tmp_path: Path) -> None:
    rules = "--links.rules=[{where: {kind: radio}, loss: 0.4}, {where: {kind: fibre, loss: '0.9'}, bits: 5}]"
    options = of_file(tmp_path, 0.9, rules)
    lines = (tmp_path / "ring.csv").read_text("utf-8").splitlines()
    kinds = ["kind"] + ["radio" if i < 3 else "fibre" for i in range(8)]
    (tmp_path / "ring.csv").write_text("\n".join(map(",".join, zip(lines, kinds, strict=True))), "utf-8")
    config = read_config(CONFIG, options)
    assert tasks.train(config) is not None
    (tmp_path / "ring.csv").unlink()
    links = build_network(config_of_run(tmp_path / "run")).links
    assert links is not None
    assert (links.table.loss == 0.4).sum() == 6 and (links.table.bits == 5).sum() == 6
    with pytest.raises(ValueError, match=r"links.rules\[0\].where: expected an attribute of links in .*, got sort"):
        build_network(read_config(CONFIG, of_file(tmp_path, 0.9, "--links.rules=[{where: {sort: x}, loss: 0.1}]")))


def test_rules_by_attribute_leave_options_free(tmp_path: Path) -> None:
    rules = "--links.rules=[{where: {loss: '0.9'}, loss: 0.4}]"
    options = [option for option in of_file(tmp_path, 0.9, rules, "--links.loss=0.2") if "read" not in option]
    assert tasks.train(read_config(CONFIG, options)) is not None
    for loss in (0.2, 0.3):
        links = build_network(config_of_run(tmp_path / "run", [f"--links.loss={loss}"])).links
        assert links is not None and set(links.table.loss.tolist()) == {loss, 0.4}
    with pytest.raises(ValueError, match="links.file: expected links.read or a rule with where, got neither"):
        build_network(read_config(CONFIG, ["--links.file=ring.csv"]))
