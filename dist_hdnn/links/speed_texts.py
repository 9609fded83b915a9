"""Speeds in texts that people wrote on maps: "45 Mbps DS-3", "OC-192c", "2 x 10 Gb/s", "10-20Gbps".

Read: numbers with a prefix and a unit, and the names of carriers. Never read: years and other numbers without a unit,
upper bounds ("< 10 Gbps", "less than", "and below"), an unknown multiple ("N*10Gbit/s") and texts of several speeds.
All speeds are of bits, also "10 GB/s", which the Topology Zoo counts as 10 Gbit/s too.
"""

import re

PREFIX = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_TIMES = r"(?:(?P<times>\d{1,3}|n)\s*[x*×]\s*)?"
_AFTER = r"(?:\s*[x*×]\s*(?P<after>\d{1,3}))?(?!\w)"
_NUMBERED = re.compile(
    rf"(?<![\w.*-])(?<!\d/){_TIMES}(?P<low>\d+(?:\.\d+)?)"
    r"(?:\s*(?P<own>[kmgt])?(?:b(?:it)?(?:/s|ps)?)?\s*[-–]\s*(?P<high>\d+(?:\.\d+)?))?"
    r"\s*(?P<prefix>[kmgt])?(?P<unit>bits?/s|bps|b/s|bs|bit|be|b|e)?" + _AFTER,
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"(?<![\w.-])(?<!\d\s){_TIMES}(?:(?P<ladder>oc|sts|stm)-?(?P<rung>\d+)c?|(?P<name>t1|ds-?1|t3|ds-?3|e1|e3|fe|gige|gbe|ge))"
    + _AFTER,
    re.IGNORECASE,
)
_LADDERS = {"oc": 51.84e6, "sts": 51.84e6, "stm": 155.52e6}
_NAMES = {"t1": 1.544e6, "ds1": 1.544e6, "t3": 44.736e6, "ds3": 44.736e6, "e1": 2.048e6, "e3": 34.368e6} | {
    "fe": 1e8,
    **dict.fromkeys(("gige", "gbe", "ge"), 1e9),
}
_BOUNDS = re.compile(r"<|≤|\b(less than|up to|below|under|max)\b", re.IGNORECASE)
_MOBILE = re.compile(r"[2-6]g", re.IGNORECASE)
SAME = 0.01
"""The share by which two figures of one speed may differ: DS-3 has 44.736 Mbit/s, and is written 45."""


def speed_of_text(text: str) -> float | None:
    """Return the speed that a text names, in bit/s, of a range the lower end, or None."""
    if _BOUNDS.search(text):
        return None
    speeds: list[float | None] = []
    for match in _NUMBERED.finditer(text):
        prefix = match["own"] or match["prefix"] or ""
        unit = (match["unit"] or "").lower()
        named = prefix != "" and not _MOBILE.fullmatch(match[0])
        if named or (not prefix and unit in ("bit/s", "bits/s", "bps")):
            backwards = match["high"] is not None and not match["own"] and float(match["high"]) < float(match["low"])
            speeds.append(None if backwards else _times(match, float(match["low"]) * PREFIX[prefix.lower()]))
    for match in _NAMED.finditer(text):
        name = (match["name"] or "").lower().replace("-", "")
        rung = 0.0 if name else _LADDERS[match["ladder"].lower()] * int(match["rung"])
        speeds.append(_times(match, _NAMES[name] if name else rung))
    first = speeds[0] if speeds else None
    if first is None or any(speed is None or abs(speed - first) > SAME * first for speed in speeds):
        return None
    return first


def _times(match: re.Match[str], speed: float) -> float | None:
    """Return the speed of a bundle, or None of an unknown number of them."""
    count = match["times"] or match["after"] or "1"
    return int(count) * speed if count.isdecimal() and int(count) and speed > 0 else None
