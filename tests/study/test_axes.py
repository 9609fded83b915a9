"""Axes, and the trials that are made of them."""

from __future__ import annotations

import random

import pytest

from dist_hdnn.study.axes import Choice, Range, Trial, applied, drawn, grid, label_of


def choice(name: str, *values: int) -> Choice:
    labels = {str(value): value for value in values}
    return Choice(name, {label: {name: value} for label, value in labels.items()}, labels)


def test_a_grid_has_every_combination_once_and_the_last_axis_changes_fastest() -> None:
    trials = list(grid([choice("network.layers", 1, 2), choice("seed", 0, 1, 2)]))
    assert [tuple(trial.settings.values()) for trial in trials] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert len({trial.id for trial in trials}) == 6


def test_more_random_trials_begin_with_the_same_ones() -> None:
    axes = [choice("seed", *range(50)), Range("network.step", 0.1, 1.0, log=True)]
    few, many = drawn(axes, 5, seed=3), drawn(axes, 20, seed=3)
    assert many[:5] == few and len({trial.id for trial in many}) == 20
    assert drawn(axes, 5, seed=4) != few
    assert all(0.1 <= trial.settings["network.step"] <= 1 for trial in many)


def test_random_trials_of_a_finite_space_do_not_repeat_and_end() -> None:
    axes = [choice("seed", 0, 1), choice("network.layers", 1, 2)]
    assert {trial.id for trial in drawn(axes, 100, 0)} == {trial.id for trial in grid(axes)}


@pytest.mark.parametrize("log", [False, True])
def test_a_range_of_integers_gives_all_of_them_and_its_ends(log: bool) -> None:
    source = random.Random(0)
    assert {Range("network.layers", 2, 5, log).draw(source) for _ in range(300)} == {2, 3, 4, 5}


def test_the_name_of_a_trial_tells_its_options_and_differs_with_its_settings() -> None:
    first = Trial({"size": "ring of 8", "seed": 1}, {"graph.agents": 8, "seed": 1})
    assert first.id.startswith("ring-of-8-seed1-")
    assert first.id == Trial(first.values, {"seed": 1, "graph.agents": 8}).id
    assert first.id != Trial(first.values, {"graph.agents": 9, "seed": 1}).id
    assert first.id != Trial(first.values, first.settings, baseline="dense").id


def test_the_name_of_a_trial_is_a_short_folder_name_whatever_its_options_are() -> None:
    name = Trial({"graph.file": "../très/long " * 40}, {"graph.file": "x"}).id
    assert len(name) < 90 and "/" not in name and name.isascii()


def test_settings_replace_what_the_base_says_and_leave_it_as_it_is() -> None:
    base = {"network": {"K": {"kind": "hops", "hops": 3}, "layers": 2}, "seed": 0}
    changed = applied(base, {"network.K": {"kind": "dense"}, "network.layers": 5})
    assert changed == {"network": {"K": {"kind": "dense"}, "layers": 5}, "seed": 0}
    assert base["network"] == {"K": {"kind": "hops", "hops": 3}, "layers": 2}


def test_values_in_words() -> None:
    assert [label_of(value) for value in (None, True, 0.1 + 0.2, [1, 2], {"kind": "thinned", "keep": 0.5})] == [
        "none",
        "true",
        "0.3",
        "1 2",
        "kind=thinned keep=0.5",
    ]
