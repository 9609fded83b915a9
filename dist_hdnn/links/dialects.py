"""Link data by the names that graph files, simulators and emulators give it, in the units of the package.

The names of a quantity stand in the order in which they are believed. Two of them that disagree on one link are an
error. A number without a unit has the unit of its name; where it has none, it is not read. `weight` is never read.
"""

import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from dist_hdnn.links.speed_texts import SAME, speed_of_text
from dist_hdnn.links.units import bytes_per_second, probability, seconds

SECONDS_PER_KM = 5e-6  # of light in fiber
BANDWIDTH: dict[str, str | None] = {
    "bandwidth": "bit/s",  # CORE, SimGrid
    "capacity": None,  # FNSS, with capacity_unit
    "LinkSpeedRaw": "bit/s",  # Topology Zoo
    "LinkSpeed": None,  # Topology Zoo, with LinkSpeedUnits
    "bw": "Mbit/s",  # mininet
    "rate": None,  # netem
    "pre_installed_capacity": None,  # SNDlib, in units of its demands
}
LATENCY: dict[str, str | None] = {"latency": "s", "delay": None}
DISTANCE: dict[str, str | None] = {"dist": "km", "length": None}
KINDS = (*BANDWIDTH, *LATENCY, *DISTANCE, "jitter")
"""Attributes that may have a unit."""
TEXTS = ("LinkLabel", "LinkType", "LinkNote")
_KILOMETERS = {"km": 1.0, "m": 1e-3, "mi": 1.609344}
_BITS = re.compile(r"([kmgt]?)(i?)(bits?/s|bits?|bps|b/s|b|bytes?/s)", re.IGNORECASE)
_SECONDS = re.compile(r"(nano|micro|milli|)sec(?:ond)?s?")
_SHORT = {"nano": "ns", "micro": "us", "milli": "ms", "": "s"}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_SPLIT = re.compile(rf"\s*({_NUMBER})?\s*(.*?)\s*")
_NETEM_DELAY = re.compile(
    rf"({_NUMBER}\s*[a-zµμ]+)\s+({_NUMBER}\s*[a-zµμ]+)(?:\s+{_NUMBER}\s*%)?(?:\s+distribution\s+\w+)?", re.IGNORECASE
)
_NETEM_LOSS = re.compile(rf"(?:random\s+)?({_NUMBER}\s*%)(?:\s+{_NUMBER}\s*%)?")
_NETEM_BURSTS = re.compile(rf"gemodel\s+({_NUMBER}\s*%)(?:\s+({_NUMBER}\s*%))?")


class Reading(NamedTuple):
    """A value in the units of the package, and where it is from, as the coverage line says it."""

    value: float
    source: str


class LinkReader:
    """Reader of the attributes of one link after another.

    facts: attributes of the graph, of which NAME_unit is used. units: attribute -> its unit, where the source has none.
    """

    def __init__(self, facts: Mapping[str, Any], units: Mapping[str, str]) -> None:
        if others := units.keys() - KINDS:
            raise ValueError(f"units: expected some of {', '.join(KINDS)}, got '{min(others)}'. Correct it.")
        self._facts, self._units = facts, units
        self._bare: dict[str, str] = {}  # attribute -> a link that has it without unit
        self._texts: dict[str, str] = {}  # attribute -> a link that has it with a unit
        self.no_unit: set[str] = set()
        """Attributes that are not read, for want of a unit, of the last link."""

    def read(self, attributes: Mapping[str, Any], where: str) -> dict[str, Reading]:
        """Return quantity -> reading, of bandwidth, latency, jitter, loss and burst. where: the link, for messages.

        Raises ValueError for a value that is none, and for two that disagree.
        """
        self.no_unit = set()
        attributes = {name: value for name, value in attributes.items() if not _is_missing(value)}
        delay, jitter = _split_delay(attributes.get("delay"))
        times = attributes | ({} if delay is None else {"delay": delay})
        readings = {
            "bandwidth": self._agreed([self._rate(name, attributes, where) for name in BANDWIDTH], where, "bit/s", 8),
            "latency": self._agreed([self._time(name, times, where, LATENCY[name]) for name in LATENCY], where, "s", 1),
            "jitter": self._agreed(
                [
                    self._time("jitter", attributes, where, "s"),
                    None if jitter is None else Reading(seconds(jitter, f"{where}: delay"), "delay"),
                ],
                where,
                "s",
                1,
            ),
            **self._losses(attributes, where),
        }
        readings["bandwidth"] = readings["bandwidth"] or _of_texts(attributes)
        if readings["latency"] is None:
            far = self._agreed([self._distance(name, attributes, where) for name in DISTANCE], where, "km", 1)
            readings["latency"] = far and Reading(far.value * SECONDS_PER_KM, f"{far.source} (5 µs/km)")
        return {quantity: reading for quantity, reading in readings.items() if reading is not None}

    def check_units(self) -> None:
        """Raise ValueError for an attribute that has a unit on some links and none on others."""
        for name in self._bare.keys() & self._texts.keys():
            raise ValueError(
                f"{self._bare[name]}: expected a unit, as {name} has one at {self._texts[name].rpartition(': ')[2]}, "
                "got a bare number. Write units on all links or on none."
            )

    def _rate(self, name: str, attributes: Mapping[str, Any], where: str) -> Reading | None:
        """Return a bandwidth in bytes per second."""
        value, option = attributes.get(name), f"{where}: {name}"
        if value is None or (name == "pre_installed_capacity" and _number(value) == 0):
            return None
        number = _number(value)
        if number is None:
            self._texts.setdefault(name, where)
            if name == "rate" and str(value).rstrip().endswith("bps"):
                raise ValueError(
                    f"{option}: expected a unit that means the same everywhere, got '{value}', which is bytes to tc "
                    "and bits to others. Write Mbit/s or MB/s."
                )
            return Reading(bytes_per_second(_plain_rate(str(value)), option), name)
        unit = self._unit(name, attributes, BANDWIDTH[name], where)
        if unit is None or number == math.inf:
            return None if unit is None else Reading(math.inf, name)
        per_unit = bytes_per_second(_plain_rate(unit), f"{option}: its unit")
        bytes_per_second(number, option)  # refuses 0 and less
        return Reading(number * per_unit, name if name.startswith("LinkSpeed") else f"{name} ({unit})")

    def _time(self, name: str, attributes: Mapping[str, Any], where: str, default: str | None) -> Reading | None:
        """Return a time in seconds."""
        value, option = attributes.get(name), f"{where}: {name}"
        if value is None:
            return None
        number = _number(value)
        if number is None:
            self._texts.setdefault(name, where)
            return Reading(seconds(str(value), option), name)
        unit = self._unit(name, attributes, default, where)
        if unit is None:
            seconds(number, option)
            return None
        return Reading(seconds(number, option) * seconds(_plain_time(unit), f"{option}: its unit"), f"{name} ({unit})")

    def _distance(self, name: str, attributes: Mapping[str, Any], where: str) -> Reading | None:
        """Return a distance in kilometers."""
        value = attributes.get(name)
        if value is None:
            return None
        number, unit = _number(value), None
        if number is None:
            self._texts.setdefault(name, where)
            match = _SPLIT.fullmatch(str(value))
            number, unit = (float(match[1]), match[2]) if match and match[1] else (None, None)
        unit = unit or self._unit(name, attributes, DISTANCE[name], where)
        if unit is None:
            return None
        if number is None or not 0 <= number < math.inf or unit.lower() not in _KILOMETERS:
            raise ValueError(f"{where}: {name}: expected a distance in km, m or mi, got '{value}' {unit}. Correct it.")
        return Reading(number * _KILOMETERS[unit.lower()], name)

    def _losses(self, attributes: Mapping[str, Any], where: str) -> dict[str, Reading | None]:
        """Return loss, and burst where it is said."""
        value, option = attributes.get("loss"), f"{where}: loss"
        if value is None:
            return {}
        number = _number(value)
        if number is None:
            self._texts.setdefault("loss", where)
            if bursts := _NETEM_BURSTS.fullmatch(str(value).strip()):
                worse = probability(bursts[1], option)
                better = probability(bursts[2], option) if bursts[2] else 1 - worse
                share = worse / (worse + better) if worse else 0.0
                return {"loss": Reading(share, "loss"), "burst": Reading(1 / max(better, 1e-9), "loss")}
            plain = _NETEM_LOSS.fullmatch(str(value).strip())
            return {"loss": Reading(probability(plain[1] if plain else str(value), option), "loss")}
        if "bw" in attributes:
            return {"loss": Reading(probability(f"{number:g} %", option), "loss (%)")}
        if number == 1:
            raise ValueError(f"{option}: expected a share or percent, got {value}, which may be both. Write '1 %'.")
        self._bare.setdefault("loss", option)
        return {"loss": Reading(probability(number, option), "loss")}

    def _unit(self, name: str, attributes: Mapping[str, Any], default: str | None, where: str) -> str | None:
        """Return the unit of a bare number, and note its lack."""
        if name == "LinkSpeed" and "LinkSpeedUnits" in attributes:
            unit = str(attributes["LinkSpeedUnits"])
            return f"{unit}bit/s" if unit in ("k", "K", "M", "G", "T") else unit
        keys = (f"{name}_unit", "distance_unit") if name in DISTANCE else (f"{name}_unit",)
        places = [attributes.get(keys[0]), self._units.get(name), *(self._facts.get(key) for key in keys)]
        for place in places:
            if place:
                return str(place)
        if default is None:
            self.no_unit.add(name)
        else:
            self._bare.setdefault(name, f"{where}: {name}")
        return default

    def _agreed(self, readings: list[Reading | None], where: str, unit: str, scale: int) -> Reading | None:
        """Return the first reading. Raises ValueError for another that differs."""
        present = [reading for reading in readings if reading is not None]
        for other in present[1:]:
            first = present[0]
            if abs(other.value - first.value) > SAME * max(first.value, other.value):
                raise ValueError(
                    f"{where}: expected one figure, got {first.value * scale:g} {unit} from {first.source} and "
                    f"{other.value * scale:g} {unit} from {other.source}. Remove one of the two."
                )
        return present[0] if present else None


def _of_texts(attributes: Mapping[str, Any]) -> Reading | None:
    """Return the bandwidth that the texts of a link name."""
    for name in TEXTS:
        if name in attributes and (speed := speed_of_text(str(attributes[name]))) is not None:
            return Reading(speed / 8, name)
    return None


def _split_delay(value: object) -> tuple[str | None, str | None]:
    """Return (delay, jitter) of netem's "10ms 2ms 25%", else nothing."""
    match = _NETEM_DELAY.fullmatch(value.strip()) if isinstance(value, str) else None
    return (match[1], match[2]) if match else (None, None)


def _plain_rate(text: str) -> str:
    """Return "1 Mbit/s" for "1mbit", "1 Mb/s", "Mbps" and "Mb". The case of b and B tells bits from bytes."""
    match = _SPLIT.fullmatch(text)
    number, unit = (match[1], match[2]) if match else (None, text)
    parts = _BITS.fullmatch(unit)
    if parts is not None:
        prefix, binary, name = parts.groups()
        prefix = "k" if prefix == "K" and not binary else prefix if prefix == "k" else prefix.upper()
        if name in ("bps", "b/s", "b") or name.lower().startswith("bit"):
            unit = f"{prefix}{binary}bit/s"
        elif name in ("Bps", "B/s", "B") or name.lower().startswith("byte"):
            unit = f"{prefix}{binary}B/s"
    return f"{number or 1} {unit}"


def _plain_time(unit: str) -> str:
    """Return "1 ms" for "ms" and FNSS's "milliseconds"."""
    word = _SECONDS.fullmatch(unit)
    return f"1 {_SHORT[word[1]]}" if word else unit if unit[:1].isdigit() else f"1 {unit}"


def _number(value: object) -> float | None:
    """Return a bare number, also as text, or None."""
    if isinstance(value, str):
        return float(value) if re.fullmatch(rf"\s*(?:{_NUMBER}|[+]?inf(?:inity)?)\s*", value, re.IGNORECASE) else None
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None


def _is_missing(value: object) -> bool:
    return value is None or value != value or (isinstance(value, str) and value.strip() in ("", "None", "nan", "NaN"))
