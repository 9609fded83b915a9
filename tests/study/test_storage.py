"""Optuna's storage: a journal that a crash cut is mended, and no message shows a password."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from dist_hdnn.study.search import masked, mend_journal

pytest.importorskip("optuna")
LINES = [json.dumps({"op_code": n, "worker_id": "w"}).encode() + b"\n" for n in range(3)]


@pytest.mark.parametrize("left", [LINES[2][:-15], LINES[2][:-1], LINES[2][:5] + b"\n", b"\xff\xfe\x00", b"[]\n"])
def test_the_last_line_of_a_journal_that_was_cut_is_dropped_with_a_warning(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "optuna.journal"
    path.write_bytes(b"".join(LINES[:2]) + left)
    with pytest.warns(UserWarning, match=rf"dropped line 3 of {path}, which a crash had cut"):
        mend_journal(path)
    assert path.read_bytes() == b"".join(LINES[:2])
    assert [entry.name for entry in tmp_path.iterdir()] == ["optuna.journal"], "the lock is given back"


@pytest.mark.parametrize("data", [b"", b"".join(LINES)])
def test_a_whole_journal_is_left_as_it_is(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "optuna.journal"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mend_journal(path)
    assert path.read_bytes() == data


def test_a_line_damaged_in_the_midst_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    path.write_bytes(LINES[0] + LINES[1][:9] + LINES[1] + LINES[2])
    with pytest.raises(ValueError, match=r"got a damaged line 2 of 3; remove that line"):
        mend_journal(path)
    assert path.read_bytes().startswith(LINES[0] + LINES[1][:9]), "nothing is dropped"


@pytest.mark.parametrize(
    ("storage", "text", "shown"),
    [
        ("postgresql://u:swordfish@localhost/x", "cannot use postgresql://u:swordfish@localhost/x", "://u:***@localhost/x"),
        ("postgresql://u:sword%40fish@h/x", "could not log in with sword@fish", "could not log in with ***"),
        ("postgresql://u:sword/f@sh@h/x", "bad URL 'postgresql://u:sword/f@sh@h/x'", "'postgresql://u:***@h/x'"),
        ("mysql://h/x?user=u&password=swordfish&ssl=1", "mysql://h/x?user=u&password=swordfish", "password=***"),
        ("postgresql://u:pw@h/x", "cannot use postgresql://u:pw@h/x", "postgresql://u:***@h/x"),
        ("sqlite:///optuna.db", "cannot use sqlite:///optuna.db", "cannot use sqlite:///optuna.db"),
        (None, "cannot use mysql://u:swordfish@h/x", "cannot use mysql://u:***@h/x"),
    ],
)  # fmt: skip
def test_no_message_shows_a_password_of_the_storage(storage: str | None, text: str, shown: str) -> None:
    found = masked(text, storage)
    assert found.endswith(shown)
    assert not any(secret in found for secret in ("swordfish", "sword%", "sword@", "f@sh", ":pw@"))
