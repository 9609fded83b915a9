"""One round between processes that share memory, compiled: put, wait, take, without the GIL.

    post(channel)               allow this round's messages to come, and put those that the receivers allow
    complete(channel) -> i64    0 when all have come and gone; 1 after a nap without news, so ask who lives, and again
    publish(word, value, bell)  write a word that another worker reads, and ring for it
    look(word) -> i64           read a word that another worker writes

A channel is an array of 64-bit words, `Channel`, and one `Message` after the other, those sent first; it has the number
of its round, so a call takes one pointer. A sender copies once `allowed` has reached the round, then sets `flag` to it.
A worker that sleeps has said so before it looks for the last time, and one with news looks at that after a full fence,
so no wake-up is lost. Bytes travel in runs: pieces of memory that lie one after the other on their way.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

try:
    import llvmlite.binding as llvm
except (ImportError, OSError):  # no wheel for this machine
    llvm = None


class Machine(NamedTuple):
    """What the code needs to know of a processor: the number of Linux' futex call, and an instruction that waits."""

    futex: int
    declaration: str
    pause: str


MACHINES = {
    "x86_64": Machine(202, "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": Machine(98, "declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}
CHANNEL = {
    name: place
    for place, name in enumerate(
        ("round", "sends", "messages", "bell", "spins", "yields", "seconds", "nanoseconds", "waited", "who")
    )
}
"""Words of a channel. messages: sent and received. bell: of this worker. spins, yields: tries before a nap of so many
seconds and nanoseconds. waited: where seconds are added up, a double per worker. who: the worker waited for last."""
MESSAGE = {
    name: place
    for place, name in enumerate(
        ("done", "flag", "allowed", "bell", "memory", "slots", "bytes", "runs", "table", "peer")
    )
}
"""Words of a message. done: the last round that is over. memory: of the receiver, its rows where slots is 0, else so
many slots of a mailbox, which the receiver empties into its runs. table: (address, bytes) of every run."""

CODE = Path(__file__).with_name("rounds.ll")


class Rounds(NamedTuple):
    """The compiled functions. addresses: of post and complete. engine: owns their code."""

    post: Callable[[int], int]
    complete: Callable[[int], int]
    publish: Callable[[int, int, int], int]
    look: Callable[[int], int]
    addresses: tuple[int, int]
    engine: Any


def missing() -> str:
    """Return what this machine lacks for compiled rounds, or "" if nothing."""
    if platform.machine() not in MACHINES:
        return f"the shm transport knows {' and '.join(MACHINES)}, not {platform.machine()}"
    return "the shm transport needs llvmlite, which is not installed" if llvm is None else ""


@cache
def rounds() -> Rounds:
    """Compile the functions, once per process."""
    machine = MACHINES[platform.machine()]
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.get_process_triple()
    text = (
        CODE.read_text(encoding="utf-8").replace("FUTEX", str(machine.futex)).replace("PAUSE", machine.pause)
        + machine.declaration
    )
    module = llvm.parse_assembly(f'target triple = "{triple}"\n{text}')
    module.verify()
    made = llvm.Target.from_triple(triple).create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(module, made)
    engine.finalize_object()
    addresses = {name: engine.get_function_address(name) for name in ("post", "complete", "publish", "look")}
    one = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
    three = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    return Rounds(
        one(addresses["post"]),
        one(addresses["complete"]),
        three(addresses["publish"]),
        one(addresses["look"]),
        (addresses["post"], addresses["complete"]),
        engine,
    )
