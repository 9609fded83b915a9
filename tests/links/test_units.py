"""Quantities with units: what people write, and what is refused in one line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_hdnn.links.units import BYTES_PER_SECOND, SECONDS, bytes_per_second, probability, seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5 ms", 5e-3),
        ("5ms", 5e-3),
        (" 5  ms ", 5e-3),
        ("1.5e2us", 150e-6),
        ("20 µs", 20e-6),
        ("20 μs", 20e-6),  # the Greek letter, not the micro sign
        ("7 ns", 7e-9),
        ("2 min", 120.0),
        ("1 h", 3600.0),
        (".5 s", 0.5),
        ("0.25", 0.25),
        (0, 0.0),
        (0.25, 0.25),
        (3, 3.0),
    ],
)
def test_times_are_in_seconds(value: object, expected: float) -> None:
    assert seconds(value, "links.latency") == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1 Gbit/s", 125e6),
        ("1 Gbps", 125e6),
        ("1 Gbit", 125e6),
        ("10 kbit/s", 1250.0),
        ("10 Kbit/s", 1250.0),
        ("2 MB/s", 2e6),
        ("2 MBps", 2e6),
        ("2 Mbyte/s", 2e6),
        ("1 MiB/s", 2.0**20),
        ("1 Mibit/s", 2.0**17),
        ("800 bit/s", 100.0),
        ("8", 1.0),
        (8, 1.0),
        (1e9, 125e6),
    ],
)
def test_rates_are_in_bytes_per_second_and_bare_ones_are_bits(value: object, expected: float) -> None:
    assert bytes_per_second(value, "links.bandwidth") == pytest.approx(expected, rel=1e-15)


def test_a_small_b_is_a_bit_and_a_large_one_a_byte() -> None:
    assert bytes_per_second("8 Mbps", "x") == bytes_per_second("1 MBps", "x")
    assert bytes_per_second("1 Mbit/s", "x") != bytes_per_second("1 MB/s", "x")


@pytest.mark.parametrize(
    ("value", "expected"), [("30 %", 0.3), ("30%", 0.3), ("5 ‰", 0.005), (0.3, 0.3), ("1", 1.0), (0, 0)]
)
def test_probabilities_are_shares_or_percent(value: object, expected: float) -> None:
    assert probability(value, "links.loss") == pytest.approx(expected)


@given(st.floats(0, 1e6), st.sampled_from(sorted(SECONDS)))
def test_every_unit_of_time_scales_its_number(number: float, unit: str) -> None:
    assert seconds(f"{number!r} {unit}", "x") == pytest.approx(number * SECONDS[unit], rel=1e-12)


@given(st.floats(1e-3, 1e6), st.sampled_from(sorted(BYTES_PER_SECOND)))
def test_every_unit_of_rate_scales_its_number(number: float, unit: str) -> None:
    assert bytes_per_second(f"{number!r}{unit}", "x") == pytest.approx(number * BYTES_PER_SECOND[unit], rel=1e-12)


REFUSED = [
    (seconds, "5 parsecs", "links.latency: expected a unit such as s, ms, .* got 'parsecs' in '5 parsecs'"),
    (seconds, "5 MS", "got 'MS' in '5 MS'"),
    (seconds, -1, "links.latency: expected a time, in seconds or as '5 ms', got -1"),
    (seconds, "-1 ms", "got -1 ms"),
    (seconds, "soon", "got 'soon'. Write a number and a unit"),
    (seconds, "", "got ''"),
    (seconds, float("nan"), "got nan"),
    (seconds, float("inf"), "got inf"),
    (seconds, True, "got True"),
    (seconds, None, "got None"),
    (seconds, [1], r"got \[1\]"),
    (bytes_per_second, "1 Gbyte", "got 'Gbyte'"),
    (bytes_per_second, "1 ms", "got 'ms' in '1 ms'"),
    (bytes_per_second, 0, "expected a rate above 0"),
    (bytes_per_second, "0 bit/s", "expected a rate above 0"),
    (bytes_per_second, -5, "expected a rate above 0"),
    (bytes_per_second, False, "got False"),
    (probability, 1.5, "expected a probability from 0 to 1, got 1.5. Write '1.5 %' for percent"),
    (probability, 30, "got 30. Write '30 %' for percent"),
    (probability, "130 %", "expected a probability from 0 to 1, got 130 %. Correct it"),
    (probability, -0.1, "got -0.1"),
    (probability, "3 ms", "got 'ms' in '3 ms'"),
    (probability, float("nan"), "got nan"),
]


@pytest.mark.parametrize(("reader", "value", "message"), REFUSED)
def test_what_is_no_quantity_is_refused_in_one_line(reader: object, value: object, message: str) -> None:
    assert callable(reader)
    with pytest.raises(ValueError, match=message) as raised:
        reader(value, "links.latency")
    text = str(raised.value)
    assert "\n" not in text and text.startswith("links.latency: expected") and re.search(r"\. \w.*\.$", text)
