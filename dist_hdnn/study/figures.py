"""Results of a trial in words: how tables, axes of pictures and lines of progress name them, and their units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """How a result is shown: factor * value with so many digits and its unit.

    name: in tables and in progress. axis: on a picture, when the name cannot stand alone there.
    """

    name: str
    unit: str = ""
    factor: float = 1.0
    digits: int = 0
    axis: str = ""

    @property
    def heading(self) -> str:
        """The name with its unit, for a column."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def label(self) -> str:
        """The name with its unit, for an axis of a picture."""
        return (f"{self.axis} ({self.unit})" if self.unit else self.axis) if self.axis else self.heading


def _fits() -> dict[str, Quantity]:
    """Accuracy and R² of validation and test data; of the agents where they answer one by one."""
    found = {}
    for part, prefix in (("validation", "validation_"), ("test", "")):
        also = f"{part} " if prefix else ""
        for key, measure, unit, factor, digits in (("accuracy", "accuracy", "%", 100.0, 2), ("r2", "R²", "", 1.0, 4)):
            more = "" if key == "accuracy" else f" {measure}"
            found[f"{part}_{key}"] = Quantity(f"{part} {measure}", unit, factor, digits)
            for which in ("mean", "worst"):
                words = f"{part} {measure}, {which} agent"
                name = f"{also}{which} agent{more}"
                found[f"{prefix}{which}_agent_{key}"] = Quantity(name, unit, factor, digits, words)
    return found


FITS = _fits()
OF_TEST_DATA = tuple(name for name in FITS if not name.startswith("validation"))
"""Results that must choose nothing."""
QUANTITIES: Mapping[str, Quantity] = FITS | {
    "parameters": Quantity("parameters", axis="trained parameters"),
    "links": Quantity("links"),
    "links_used": Quantity("pairs that exchange"),
    "density": Quantity("density", "%", 100.0, 2, "pairs of agents that exchange"),
    "messages_per_step": Quantity("messages/step", axis="messages per training step"),
    "bytes_per_step": Quantity("bytes/step", axis="bytes per training step, all agents"),
    "non_neighbour_messages": Quantity("past a neighbor"),
    "seconds_per_step": Quantity("time/step", "ms", 1000.0, 2, "time of a training step"),
    "peak_memory_bytes": Quantity("memory", axis="peak memory"),
    "reach": Quantity("reach"),
    "diameter": Quantity("diameter", digits=1),
    "components": Quantity("parts", digits=1),
    "loss": Quantity("training loss", digits=4),
}
"""In the order of the report's columns."""
SPREAD = (*FITS, "seconds_per_step")
"""Results whose deviation over the seeds is shown."""


def quantity(name: str) -> Quantity:
    """How a result is shown; an unknown one under its own name."""
    return QUANTITIES.get(name, Quantity(name.replace("_", " "), digits=4))


def figure(name: str, value: float) -> str:
    """A value in the unit of its column; whole numbers without a fraction."""
    if name == "peak_memory_bytes":
        return in_bytes(value)
    shown = quantity(name)
    number = shown.factor * value
    digits = 0 if not shown.unit and name not in FITS and number == round(number) else shown.digits
    return f"{number:,.{digits}f}"


def spoken(name: str, value: float) -> str:
    """Name, value and unit, for a line of progress."""
    return f"{quantity(name).name} {figure(name, value)} {quantity(name).unit}".rstrip()


def in_bytes(value: float) -> str:
    """A number of bytes with a decimal prefix, as in 12 kB."""
    for prefix in ("", "k", "M", "G"):
        if abs(value) < 1000:
            return f"{value:.3g} {prefix}B"
        value /= 1000
    return f"{value:.3g} TB"
