"""Quantities with units, as people write them: "5 ms", "1 Gbit/s", "30 %"; bare numbers are SI.

Inside the package: seconds, bytes per second, probabilities.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
BYTES_PER_SECOND = {
    f"{prefix}{name}": factor / per
    for prefix, factor in (_PREFIX | _BINARY).items()
    for names, per in ((("bit/s", "bps", "bit"), 8.0), (("B/s", "Bps", "byte/s", "bytes/s"), 1.0))
    for name in names
}
FRACTIONS = {"%": 1e-2, "‰": 1e-3}


def seconds(value: object, option: str) -> float:
    """Return a time in seconds, of a number or a text such as "5 ms". Raises ValueError."""
    return _quantity(value, option, SECONDS, "a time, in seconds or as '5 ms'")


def bytes_per_second(value: object, option: str) -> float:
    """Return a rate in bytes per second, of bit/s as a number or a text such as "1 Gbit/s" or "2 MB/s".

    A bare number is in bit/s, as graph files have it. Raises ValueError.
    """
    bare = value / 8 if isinstance(value, int | float) and not isinstance(value, bool) else value
    if isinstance(value, str) and _number_alone(value):
        bare = float(value) / 8
    rate = _quantity(bare, option, BYTES_PER_SECOND, "a rate above 0, in bit/s or as '1 Gbit/s'")
    if rate <= 0:
        raise ValueError(f"{option}: expected a rate above 0, in bit/s or as '1 Gbit/s', got {value}. Correct it.")
    return rate


def probability(value: object, option: str) -> float:
    """Return a probability from 0 to 1, of a number or a text such as "30 %". Raises ValueError."""
    share = _quantity(value, option, FRACTIONS, "a probability from 0 to 1, or as '30 %'")
    if share > 1:
        hint = f" Write '{value} %' for percent." if isinstance(value, int | float) and value <= 100 else " Correct it."
        raise ValueError(f"{option}: expected a probability from 0 to 1, got {value}.{hint}")
    return share


def _number_alone(text: str) -> bool:
    match = _NUMBER.fullmatch(text)
    return match is not None and not match[2]


def _quantity(value: object, option: str, units: dict[str, float], expected: str) -> float:
    """Return a number that is not negative, in the unit of the package."""
    number = value
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None:
            raise ValueError(f"{option}: expected {expected}, got '{value}'. Write a number and a unit.")
        number = float(match[1])
        if match[2]:
            if match[2] not in units:
                known = ", ".join(list(units)[:12])
                raise ValueError(
                    f"{option}: expected a unit such as {known}, got '{match[2]}' in '{value}'. Correct it."
                )
            number *= units[match[2]]
    if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0 or number == float("inf"):
        raise ValueError(f"{option}: expected {expected}, got {value}. Correct it.")
    return float(number)
