"""What every test may use."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")  # before PyTorch is loaded: tests of equal bits need both
os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: children would ignore Ctrl-C as well
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_PROCESSES = ("processes", "mpi", "multihost")  # marks of tests with processes, deadlines and shared memory


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real processes run one after the other, even where others run beside them (pytest -n 2).

    pytest 9.2.0 loses the groups (pytest-xdist#1386), so with it these tests run beside each other as well.
    """
    for item in items:
        if any(item.get_closest_marker(mark) for mark in REAL_PROCESSES):
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Random numbers are the same in every run, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """The folder of real networks and data beside the repository; a test that needs it skips without it."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return folder
