"""Shared memory: its heap, who lives, and what happens where there is no memory."""

from __future__ import annotations

import errno
import gc
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transport.processes import SCRIPT, run
from transport.shared import SHARED

from dist_hdnn.transport.rendezvous import serve_store
from dist_hdnn.transport.shm import join
from dist_hdnn.transport.shm.memory import LINE, Heap, Segment
from dist_hdnn.transport.shm.peers import Home, Peer
from dist_hdnn.transport.shm.transport import CROWDED, PATIENT, patience

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from dist_hdnn.transport.shm import join
join(0, 1, "file://" + sys.argv[2])
"""


@pytest.mark.processes
@pytest.mark.parametrize("workers", [2, 3])
def test_every_case_of_shared_memory_holds_between_processes(workers: int) -> None:
    store, address = serve_store()
    before = set(os.listdir("/dev/shm"))
    done = run(sys.executable, str(SCRIPT), "shm", address, str(workers), *SHARED)
    ended = json.loads(done.stdout.splitlines()[-1])
    assert [ended[str(rank)][0] for rank in range(workers)] == [0] * workers, done.stderr
    assert not {name for name in set(os.listdir("/dev/shm")) - before if "dist_hdnn" in name}
    del store


def test_pieces_of_a_heap_never_overlap_and_come_back() -> None:
    heap, choice = Heap(lambda number, segment: None), random.Random(0)
    taken: list[Any] = []
    for _ in range(2000):
        if taken and choice.random() < 0.5:
            heap.give(taken.pop(choice.randrange(len(taken))))
        else:
            taken.append(heap.take(choice.randrange(1, 30_000)))
        spans = sorted((piece.segment, piece.start, piece.start + piece.size) for piece in taken)
        assert all(a[0] != b[0] or a[2] <= b[1] for a, b in zip(spans, spans[1:], strict=False))
        assert all(piece.start % LINE == 0 and piece.address % LINE == 0 for piece in taken)
    for piece in taken:
        heap.give(piece)
    assert heap._gaps == [[(0, segment.size)] for segment in heap.segments]
    heap.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex128, torch.bool])
def test_a_tensor_gives_its_memory_back_when_its_last_view_is_gone(dtype: torch.dtype) -> None:
    heap = Heap(lambda number, segment: None)
    tensor = heap.tensor((3, 1000), dtype)
    assert tensor.shape == (3, 1000) and tensor.dtype == dtype and tensor._base is None and tensor.is_contiguous()
    view, address = tensor[1:, 5], tensor.data_ptr()
    del tensor
    gc.collect()
    assert heap.tensor((3, 1000), dtype).data_ptr() != address
    del view
    gc.collect()
    assert heap.tensor((3, 1000), dtype).data_ptr() == address
    assert heap.place(address, 8) == 0 and heap.place(torch.zeros(1).data_ptr(), 4) is None
    assert heap.tensor((0, 7), dtype).shape == (0, 7)
    heap.close()


def test_memory_is_there_when_it_is_made() -> None:
    """A write to it can therefore never fail with SIGBUS, as in a file with holes on a full disk."""
    segment = Segment.new(1 << 20)
    assert os.fstat(segment.descriptor).st_blocks * 512 >= 1 << 20
    segment.close()


def test_a_lock_tells_who_lives() -> None:
    """Also of a zombie, which `kill -0` takes for alive, and whatever its forked children hold."""
    home = Home(2)
    (reader, writer), (until, end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        theirs = Home(2)
        grandchild = os.fork()
        if grandchild == 0:
            os.read(until, 1)
            os._exit(0)
        said = [theirs.segment.descriptor, theirs.segment.size, theirs.lock]
        os.write(writer, json.dumps(said).encode())
        os.read(until, 1)
        os._exit(0)
    peer = Peer(1, 0, child, *json.loads(os.read(reader, 200)))
    assert peer.alive() and peer.alive()
    os.kill(child, 9)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert not peer.alive()
    os.waitpid(child, 0)
    os.write(end, b".")
    for descriptor in (reader, writer, until, end):
        os.close(descriptor)
    peer.close()
    home.close()


@pytest.mark.parametrize("workers, cores, tries", [(2, 2, PATIENT), (4, 2, CROWDED), (1, 1, PATIENT), (3, 2, CROWDED)])
def test_workers_that_outnumber_cores_do_not_spin_for_long(workers: int, cores: int, tries: tuple[int, int]) -> None:
    assert patience(workers, cores) == tries


def test_without_memory_for_a_start_one_line_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "4096", f"{tmp_path}/store"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        "worker 0 got no shared memory: File too large; free memory, raise its limit, or use the gloo transport"
    )


def test_without_further_memory_tensors_are_ordinary_and_a_channel_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = join(0, 1, f"file://{tmp_path}/store")

    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    tensor = transport.empty((1 << 20,), torch.zeros(0))
    assert transport.home.heap.place(tensor.data_ptr(), tensor.nbytes) is None
    tensor.zero_()
    with pytest.raises(OSError, match="No space left"):
        transport.home.heap.take(1)
    transport.close()
    assert transport.empty((2,), torch.zeros(0)).shape == (2,)


def test_llvmlite_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist_hdnn.transport.shm.rounds.llvm", None)
    with pytest.raises(
        ValueError, match="transport: the shm transport needs llvmlite, which is not installed; use gloo"
    ):
        join(0, 1, f"file://{tmp_path}/store")
