"""Rows of results: units by the name of a figure, the least accurate agents first, long lists cut."""

from __future__ import annotations

from typing import Any

import pytest

from dist_hdnn.printing import rows_of


@pytest.mark.parametrize(
    ("key", "value", "row"),
    [
        ("test_accuracy", 0.98765, ("test accuracy", "98.77 %")),
        ("test_r2", 0.98765, ("test r2", "0.98765")),
        ("test_r2", None, ("test r2", "undefined")),
        ("sweep_bytes", 256000, ("sweep", "250.0 KiB")),
        ("bytes_per_link", {"mean": 512.0, "max": 2048}, ("bytes per link", "mean 512 B, max 2.0 KiB")),
        ("degree", {"min": 1, "mean": 1.75}, ("degree", "min 1, mean 1.75")),
        ("columns", {"x1": ["0"], "x2": ["7", "8"]}, ("columns", "x1 -> 0, x2 -> 7, 8")),
        ("rounds", [{"ghosts": {"min": 2, "max": 3}, "bytes": 4}], ("rounds", "ghosts (min 2, max 3), bytes 4 B")),
        ("exact", True, ("exact", "yes")),
        ("agents", list("abcdefghij"), ("agents", "a, b, c, d, e, f, g, h, ...")),
        (
            "test_agent_accuracy",
            {"a": 0.9, "b": None, "c": 0.5},
            ("test agent accuracy", "c 50.00 %, a 90.00 %, b undefined"),
        ),
        (
            "test_agent_r2",
            dict(zip("abcdefg", [7, 6, 5, 4, 3, 2, 1.5], strict=True)),
            ("test agent r2", "g 1.5, f 2, e 3, d 4, c 5; 2 more are no worse"),
        ),
    ],
)
def test_a_figure_is_a_row_in_its_unit(key: str, value: Any, row: tuple[str, str]) -> None:
    assert rows_of({key: value}) == [row]
