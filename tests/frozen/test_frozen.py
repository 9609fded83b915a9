"""A change that should change nothing changes nothing: every network against its frozen digest."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("frozen_digests", Path(__file__).with_name("digests.py"))
assert spec is not None and spec.loader is not None
digests = sys.modules["frozen_digests"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(digests)
FROZEN = json.loads(digests.FILE.read_text(encoding="utf-8"))
FAMILIES = sorted({name.split(";")[0] for name in FROZEN["cases"]})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_computes_what_it_did(family: str) -> None:
    frozen = {name: of for name, of in FROZEN["cases"].items() if name.split(";")[0] == family}
    found = {
        name: digests.digest(options, workers)
        for name, options, workers in digests.cases()
        if name.split(";")[0] == family
    }
    assert digests.differences(found, frozen, bitwise=False) == []


def test_every_architecture_is_frozen() -> None:
    assert {name.split(";")[0] for name, _, _ in digests.cases()} == set(FAMILIES)
