"""Pictures are checked by what their axes hold."""

from __future__ import annotations

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
