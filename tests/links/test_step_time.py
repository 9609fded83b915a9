"""The prediction of a training step's time from a calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist_hdnn import path
from dist_hdnn.build.assembly import build_layout
from dist_hdnn.config.files import read_config
from dist_hdnn.inspection.step_time import Case, domain_of, features, fit, predict, seconds_at, step_of_config
from dist_hdnn.topology import build_pattern

TIMES = [[1e-6, 2e-6], [4e-6, 8e-6]]
PROBES = {"neurons": [1, 4], "batches": [16, 64], "block": TIMES, "agent": TIMES}


def test_a_case_counts_the_busiest_worker() -> None:
    pattern = build_pattern(path(5), "neighbours")
    case = Case.of("gloo", pattern, np.array([0, 0, 1, 1, 1]), 4, 8, 32)
    # rows 2, 3, 4 have 3 + 3 + 2 blocks; each worker hears one agent of the other
    assert case == Case("gloo", 3, 4, 8, 32, blocks=8, ghosts=1)


def test_ghosts_are_slices_that_a_worker_receives_once() -> None:
    pattern = build_pattern(path(4), "dense")
    assert Case.of("mpi", pattern, np.array([0, 0, 0, 1]), 1, 1, 1).ghosts == 3


def test_seconds_of_a_block_lie_between_measured_shapes() -> None:
    assert seconds_at("block", 4, 16, PROBES) == pytest.approx(4e-6)
    assert seconds_at("block", 2, 32, PROBES) == pytest.approx(np.sqrt(2e-6 * 4e-6))


def test_a_prediction_is_a_sum_and_says_where_it_extrapolates() -> None:
    case = Case("mpi", 8, 4, 10, 64, 24, 2)
    one = {"step": 1e-3, "seconds of blocks": 1.0}
    calibration = {
        "probes": PROBES,
        "coefficients": {"one": one, "mpi": {"seconds alone": 2.0, "messages": 1e-5}},
        "domain": {"mpi": {name: [value, value] for name, value in domain_of(case).items()}},
    }
    seconds, extrapolated = predict(case, calibration)
    assert seconds == pytest.approx(2 * (1e-3 + 10 * 24 * 8e-6) + 80 * 1e-5) and not extrapolated
    assert predict(replace(case, layers=11), calibration)[1]
    with pytest.raises(ValueError, match="expected a kind of worker among one, mpi, got gloo"):
        predict(replace(case, kind="gloo"), calibration)


def test_a_fit_recovers_a_prediction() -> None:
    generator = np.random.default_rng(0)
    cases = [
        Case("one", *(int(n) for n in generator.integers(1, 40, 4)), blocks=int(generator.integers(10, 100)), ghosts=0)
        for _ in range(40)
    ]
    true = {"probes": PROBES, "coefficients": {"one": {"step": 1e-3, "layers": 1e-4, "seconds of blocks": 0.7}}}
    seconds = [predict(case, true | {"domain": {}})[0] for case in cases]
    fitted = true | {"domain": {}, "coefficients": {"one": fit(cases, seconds, true)}}
    errors = [abs(predict(case, fitted)[0] / time - 1) for case, time in zip(cases, seconds, strict=True)]
    assert max(errors) < 1e-6


def test_one_worker_sends_nothing() -> None:
    found = features(Case("one", 8, 4, 10, 64, 24, 0), {"probes": PROBES})
    assert found["layers"] == 10 and not any("message" in name for name in found)


def test_a_config_of_another_architecture_is_extrapolated() -> None:
    config = read_config(None, ["--graph.family=ring", "--graph.agents=8", "--network.layers=4"])
    layout = build_layout(config)
    pattern, owners = layout.stored["K"][0], np.zeros(8, np.int64)
    case = Case.of("one", pattern, owners, int(layout.sizes[0]), 4, config.train.batch_size)
    calibration = {
        "probes": PROBES,
        "coefficients": {"one": {"layers": 1e-3}},
        "domain": {"one": {name: [value, value] for name, value in domain_of(case).items()}},
    }
    assert step_of_config(config, layout, calibration) == {"milliseconds": 4.0, "extrapolated": False}
    config.network.memory = "recompute"
    assert step_of_config(config, layout, calibration)["extrapolated"]
