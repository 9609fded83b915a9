"""The list of bugs fits the code: each can be planted, and its tests exist."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "dist_hdnn"
spec = importlib.util.spec_from_file_location("bugs", Path(__file__).with_name("bugs.py"))
assert spec is not None and spec.loader is not None
bugs = sys.modules["bugs"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bugs)


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(bug) -> None:
    text = (PACKAGE / bug.file).read_text(encoding="utf-8")
    assert text.count(bug.old) == 1
    if bug.file.endswith(".py"):
        ast.parse(text.replace(bug.old, bug.new))
    missing = [test for test in bug.tests if not (TESTS / test).is_file()]
    assert not missing


def test_there_are_sixty_bugs_with_names_of_their_own() -> None:
    assert len({bug.name for bug in bugs.BUGS}) == len(bugs.BUGS) >= 60
