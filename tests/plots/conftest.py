"""Pictures are checked by what their axes hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while a test runs."""
    seen: list[Figure] = []
    save = Figure.savefig

    def noted(self: Figure, *arguments: object, **options: object) -> None:
        seen.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", noted)
    return seen


@pytest.fixture
def drawn(tmp_path: Path, saved: list[Figure]) -> Callable[..., Figure]:
    """Call a plot function with the path of a picture; the value is its figure."""

    def draw(plot: Callable[..., Path], *arguments: Any, **options: Any) -> Figure:
        path = tmp_path / "new" / "folder" / "picture.png"
        assert plot(*arguments, path=path, **options) == path
        assert path.read_bytes().startswith(b"\x89PNG")
        return saved[-1]

    return draw
