"""The seed of a run moves everything random in it, and a seed of a part pins that part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_hdnn import HDNN, complete
from dist_hdnn.build import assembly
from dist_hdnn.config import Config, run_identity, with_seeds
from dist_hdnn.config.files import config_from, read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.run.directory import difference, prepare_run_directory
from dist_hdnn.topology import BlockPattern, thinned
from dist_hdnn.transport import Transport, run_threads

RANDOM_PARTS: dict[str, list[str]] = {
    "data": ["--data.name=double_moons", "--data.samples=40"],
    "graph": ["--graph.family=random_regular"],
    "network.K": ["--graph.family=complete", "--network.K.kind=thinned"],
    "network.X": ["--graph.family=complete", "--network.X.kind=thinned", "--network.shared_x=true"],
}


def drawn(part: str, config: Config) -> bytes:
    """The random part of a config as bytes."""
    if part == "data":
        return assembly.build_dataset(config).train_x.tobytes()
    if part == "graph":
        return assembly.build_graphs(config)[0].links.tobytes()
    layout = assembly.build_layout(config)
    (pattern,) = layout.K_patterns if part == "network.K" else layout.X_patterns or []
    return pattern.columns.tobytes()


@pytest.mark.parametrize("part", RANDOM_PARTS)
def test_the_seed_of_the_run_moves_a_random_part_and_a_seed_of_its_own_pins_it(part: str) -> None:
    def of(*options: str) -> bytes:
        return drawn(part, read_config(overrides=[*RANDOM_PARTS[part], *options]))

    assert of("--seed=1") != of("--seed=2") and of("--seed=2") == of("--seed=2")
    assert of("--seed=1") == of("--seed=5", f"--{part}.seed=1")
    assert of() == of("--seed=0") == of("--seed=5", f"--{part}.seed=0")


def test_further_graphs_follow_the_seed_too() -> None:
    more = [{"family": "random_regular"}, {"family": "random_regular", "seed": 7}]
    for seed in (1, 2):
        graphs = assembly.build_graphs(config_from({"seed": seed, "more_graphs": more}))
        assert [graph.name for graph in graphs[1:]] == [f"random_regular(8, 3, seed={s})" for s in (seed, 7)]


def test_a_network_draws_a_thinned_pattern_by_its_seed_on_any_number_of_workers() -> None:
    graph = complete(6)
    spec: dict[str, Any] = {"kind": "thinned", "keep": 0.5}

    def pattern(transport: Transport | None, **changes: Any) -> BlockPattern:
        options: dict[str, Any] = {"K": spec, "seed": 3, **changes}
        return HDNN(graph, width=2, layers=2, workers=transport, **options).K_patterns[0]

    expected = thinned(graph, 0.5, 3)
    for workers in (1, 2, 3):
        for found in run_threads(workers, pattern):
            assert np.array_equal(found.columns, expected.columns)
    assert pattern(None).kind == expected.kind == "thinned(keep=0.5, seed=3)"
    assert not np.array_equal(pattern(None, seed=4).columns, expected.columns)
    assert np.array_equal(pattern(None, seed=4, K=spec | {"seed": 3}).columns, expected.columns)


def test_a_model_of_a_config_has_the_patterns_that_inspect_counts() -> None:
    config = read_config(overrides=[*RANDOM_PARTS["network.K"], "--seed=4", "--data.samples=40"])
    model = assembly.build_classifier(config, assembly.build_dataset(config))
    assert np.array_equal(model.network.K_patterns[0].columns, assembly.build_layout(config).K_patterns[0].columns)


def test_seeds_that_follow_and_the_same_seeds_given_are_one_run() -> None:
    following = Config(seed=3)
    assert run_identity(following) == run_identity(with_seeds(following))
    assert with_seeds(following).network.X.seed == 3 and following.network.X.seed is None


def test_a_run_of_pinned_seeds_is_resumed_by_its_own_config_and_refused_under_a_seed_that_moves_more(
    tmp_path: Path,
) -> None:
    """Configs of earlier versions have seed 0 in every part, whatever the seed of the run."""
    before = read_config(overrides=[f"--{part}.seed=0" for part in RANDOM_PARTS])
    before.seed, before.output = 3, str(tmp_path / "run")
    directory = prepare_run_directory(before)
    assert difference(directory, read_config(directory / "config.yaml")) == ""
    moved = read_config(overrides=["--seed=3"])
    assert difference(directory, moved) == "one whose graph.seed is 0, not 3"
    before.seed = 0
    before.output = str(tmp_path / "other")
    assert difference(prepare_run_directory(before), read_config()) == ""


def test_a_stored_config_keeps_following_the_seed(tmp_path: Path) -> None:
    small = ["--data.samples=40", "--train.epochs=1", "--network.layers=2", "--plots=false", "--seed=2"]
    directory = tasks.train(read_config(overrides=[*small, f"--output={tmp_path / 'run'}"]))
    assert directory is not None
    config = read_config(directory / "config.yaml")
    assert config.data.seed is config.graph.seed is config.network.K.seed is None
    assert with_seeds(read_config(directory / "config.yaml", ["--seed=5"])).data.seed == 5
