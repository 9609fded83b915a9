"""Machine code on disk: taken where it is whole and belongs to this machine and source, else compiled again."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dist_hdnn.operators.tiles import cache, machine
from dist_hdnn.operators.tiles.machine import Code, Value, available, compile_function, ir

pytestmark = pytest.mark.skipif(not available(), reason="no kernels without llvmlite")
NETWORK = """
import hashlib, warnings, torch, dist_hdnn
torch.manual_seed(0)
torch.set_num_threads(2)
net = dist_hdnn.HDNN(dist_hdnn.ring(64), width=64, layers=3)  # so large that threads share its products
y = torch.randn(37, net.neurons)
output = net(y)
output.square().sum().backward()
found = [output.detach(), *(p.grad for p in net.parameters())]
print(hashlib.sha256(b"".join(each.contiguous().numpy().tobytes() for each in found)).hexdigest())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def written(value: int, name: str = "write") -> tuple[int, int]:
    """Compile a function that writes a number; return what it wrote, and how often its IR was made."""
    made = 0

    def write(code: Code, arguments: list[Value]) -> None:
        nonlocal made
        made += 1
        code.builder.store(ir.Constant(code.integer, value), arguments[0])

    number = ctypes.c_int64()
    compile_function(name, 1, 0, write).call(ctypes.addressof(number))
    return number.value, made


def test_an_entry_is_taken_instead_of_compiling(folder: Path) -> None:
    assert written(1) == (1, 1)
    assert written(2) == (1, 0), "by its name the same function"
    assert written(3, "other") == (3, 1)
    assert cache.size() == (2, sum(path.stat().st_size for path in folder.iterdir()))
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())


@pytest.mark.parametrize("damage", [b"", b"nothing", None], ids=["empty", "short", "one byte"])
def test_a_damaged_entry_is_compiled_again(folder: Path, damage: bytes | None) -> None:
    written(1)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    assert written(4) == (4, 1)
    assert written(5) == (4, 0)


def test_another_processor_has_entries_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(1)
    monkeypatch.setattr(machine, "_versions", lambda: ("another processor",))
    assert written(2) == (2, 1)
    assert cache.size()[0] == 2


def test_a_source_that_changed_has_entries_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text("one")
    before = cache.key_of(str(tmp_path / "kernel.py"), "name")
    cache._sources.cache_clear()
    assert cache.key_of(str(tmp_path / "kernel.py"), "name") == before
    (tmp_path / "kernel.py").write_text("two")
    cache._sources.cache_clear()
    assert cache.key_of(str(tmp_path / "kernel.py"), "name") != before
    cache._sources.cache_clear()


def test_a_folder_that_others_may_write_to_is_not_used(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    assert written(1) == (1, 1) and written(2) == (2, 1)
    assert not list(folder.iterdir())


def test_off_and_no_place_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, "off")
    assert written(1) == (1, 1) and written(2) == (2, 1) and cache.size() == (0, 0)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "kernels"))
    assert written(1) == (1, 1) and written(2) == (2, 1)
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "dist_hdnn" / "kernels"


def test_an_entry_that_goes_meanwhile_counts_nowhere(folder: Path) -> None:
    written(1)
    (folder / "gone").symlink_to(folder / "nowhere")
    assert cache.size()[0] == 1


def test_the_oldest_entries_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 2)
    for age, name in enumerate(("one", "two", "three")):
        written(age, name)
        for path in folder.iterdir():
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
    assert cache.size()[0] == 2
    assert written(7, "three") == (2, 0) and written(7, "one") == (7, 1)


def test_processes_at_once_compute_the_bits_of_one_without_a_cache(folder: Path) -> None:
    def started(place: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", NETWORK],
            env=os.environ | {cache.VARIABLE: place},
            stdout=subprocess.PIPE,
            text=True,
        )

    first = [started(place).communicate(timeout=120)[0] for place in ("off",)]
    first += [each.communicate(timeout=120)[0] for each in [started(str(folder)) for _ in range(2)]]
    first += [started(str(folder)).communicate(timeout=120)[0]]
    assert len(first[0]) > 60 and len(set(first)) == 1
    assert cache.size()[0] > 4
