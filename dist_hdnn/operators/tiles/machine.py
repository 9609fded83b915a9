"""Compile LLVM IR to functions that ctypes calls, and write IR with loops and variables.

llvmlite brings LLVM as a wheel, so nothing is compiled at install time. A call through ctypes releases the GIL.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, ParamSpec

from dist_hdnn.operators.tiles import cache

try:
    import llvmlite
    import llvmlite.binding as llvm
    from llvmlite import ir as ir
except (ImportError, OSError):  # no wheel for this machine; `available` is false and nothing else is called
    llvm = ir = None

P = ParamSpec("P")
Kernel = Callable[..., None]
_COMPILING = threading.RLock()
_ENGINES: list[Any] = []  # owners of machine code; they share a target machine, so none may be disposed of
Value = Any  # an SSA value of llvmlite, which has no types
INTEGER_BITS = 64
_TEAM = ("omp_get_thread_num", "omp_get_num_threads")


def available() -> bool:
    """Tell whether llvmlite is installed."""
    return llvm is not None


class Shape(NamedTuple):
    """Registers of the host: bytes of one vector, and how many there are."""

    vector_bytes: int
    registers: int


@functools.cache
def host() -> Shape:
    """Return AVX-512, AVX2 or AVX on x86, and 128-bit vectors elsewhere, 32 of them on ARM."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return Shape(64, 32)
    if features.get("avx"):
        return Shape(32, 16)
    return Shape(16, 32 if llvm.get_process_triple().startswith(("aarch64", "arm64")) else 16)


@functools.cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True
    )


def once(make: Callable[P, Compiled]) -> Callable[P, Compiled]:
    """Compile each function once per process, one at a time, because LLVM's global state is not thread-safe."""
    made = functools.cache(make)

    @functools.wraps(make)
    def alone(*arguments: P.args, **named: P.kwargs) -> Compiled:
        with _COMPILING:
            return made(*arguments, **named)  # type: ignore[arg-type]  # all of them can be hashed

    return alone


class Compiled(NamedTuple):
    """A function of machine code, which stays for ever."""

    call: Kernel
    address: int


def compile_function(
    name: str, pointers: int, integers: int, write: Callable[[Code, list[Value]], None], shared: Sequence[int] = ()
) -> Compiled:
    """Compile a function of pointers, then 64-bit integers, without a result, whose body `write` writes.

    pointers, integers: how many. shared: numbers of the pointers that may lead to the same memory. The name tells all
    that `write` depends on besides the host: machine code of an earlier process is taken instead where there is one.
    """
    key = cache.key_of(write.__code__.co_filename, name, pointers, integers, shared, host(), *_versions())
    binary = cache.load(key)
    if binary is None:
        binary = _target().emit_object(_optimized(name, pointers, integers, write, shared))
        cache.keep(key, binary)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(binary))
    engine.finalize_object()
    # an integer becomes a void pointer twice as fast as an int64
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (pointers + integers))
    address = engine.get_function_address(name)
    _ENGINES.append(engine)
    return Compiled(prototype(address), address)


def _versions() -> tuple[str, ...]:
    """Return what machine code depends on besides its source."""
    features = llvm.get_host_cpu_features().flatten()
    return llvmlite.__version__, str(llvm.llvm_version_info), llvm.get_host_cpu_name(), features


def _optimized(
    name: str, pointers: int, integers: int, write: Callable[[Code, list[Value]], None], shared: Sequence[int]
) -> Any:
    """Write the IR of a function and optimize it."""
    module = ir.Module(name)
    module.triple = llvm.get_process_triple()
    arguments = [ir.PointerType()] * pointers + [ir.IntType(INTEGER_BITS)] * integers
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    for number, pointer in enumerate(function.args[:pointers]):
        if number not in shared:
            pointer.add_attribute("noalias")
    code = Code(ir.IRBuilder(function.append_basic_block("entry")))
    write(code, list(function.args))
    code.builder.ret_void()
    parsed = llvm.parse_assembly(str(module))
    _tidy(parsed)
    return parsed


@functools.cache
def openmp() -> Callable[..., None] | None:
    """Return GOMP_parallel of the OpenMP library that PyTorch has loaded, whose threads are running, or None."""
    if os.name != "posix":
        return None
    process = ctypes.CDLL(None)
    if not all(hasattr(process, name) for name in ("GOMP_parallel", *_TEAM)):
        return None
    for name in _TEAM:
        llvm.add_symbol(name, ctypes.cast(getattr(process, name), ctypes.c_void_p).value)
    start: Any = process.GOMP_parallel
    start.argtypes, start.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return start  # type: ignore[no-any-return]


@once
def team(arguments: int) -> Compiled:
    """Compile f(data), which every thread of a team runs on its share of the parts.

    For each part call data[0](data[3], ...), with begin and end of the part between the first 6 arguments and the rest.
    data[1]: address of where the parts begin, and the last one ends. data[2]: number of parts.
    """

    def write(code: Code, given: list[Value]) -> None:
        b, word = code.builder, code.integer

        def entry(base: Value, index: Value, type: Any = word) -> Value:
            return b.load(b.gep(base, [index], source_etype=word), typ=type)

        asked = ir.FunctionType(ir.IntType(32), [])
        me, size = (b.zext(b.call(ir.Function(b.module, asked, name), []), word) for name in _TEAM)
        kernel = ir.FunctionType(ir.VoidType(), [word] * (arguments + 2)).as_pointer()
        function = entry(given[0], code.number(0), kernel)
        ends, parts = entry(given[0], code.number(1), ir.PointerType()), entry(given[0], code.number(2))
        values = [entry(given[0], code.number(3 + i)) for i in range(arguments)]
        with code.loop(me, parts, size) as part:  # thread `me` takes parts me, me + size, ...
            mine = entry(ends, part), entry(ends, b.add(part, code.number(1)))
            b.call(function, [*values[:6], *mine, *values[6:]])

    return compile_function(f"team_{arguments}", 1, 0, write)


def _tidy(module: Any) -> None:
    """Turn variables into registers and move invariants out of loops, but neither vectorize nor unroll again."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_rotate_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, llvm.create_pass_builder(_target(), llvm.create_pipeline_tuning_options(speed_level=2)))


class Code:
    """An IR builder with loops and variables, which LLVM turns into registers."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.integer = ir.IntType(INTEGER_BITS)

    def number(self, value: int) -> Value:
        return ir.Constant(self.integer, value)

    def variable(self, start: Value) -> Value:
        """Make a variable with a first value, and return its place. Allocated at entry: once, not once per turn."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(start.type)
        self.builder.store(start, place)
        return place

    def get(self, place: Value, type: Any) -> Value:
        return self.builder.load(place, typ=type)

    @contextmanager
    def loop(self, start: Value, stop: Value, step: int | Value = 1) -> Iterator[Value]:
        """Write the body of the block as `for index in range(start, stop, step)`."""
        b = self.builder
        place = self.variable(start)
        head, body, end = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        index = self.get(place, self.integer)
        b.cbranch(b.icmp_signed("<", index, stop), body, end)
        b.position_at_end(body)
        yield index
        b.store(b.add(index, self.number(step) if isinstance(step, int) else step), place)
        b.branch(head)
        b.position_at_end(end)

    def split(self, length: Value, largest: int, body: Callable[[Value, int], None]) -> None:
        """Write a loop that cuts `length` into pieces of 8, 4, 2, 1 or 3, 2, 1, with one body(start, size) per size.

        largest: the largest piece, 8, 4 or 3.
        """
        b = self.builder
        place = self.variable(self.number(0))
        head, choose, end = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        start = self.get(place, self.integer)
        b.cbranch(b.icmp_signed("<", start, length), choose, end)
        b.position_at_end(choose)
        left = b.sub(length, start)
        sizes = [size for size in (8, 4, 3, 2, 1) if size == largest or (size < largest and size != 3)]
        for size in sizes:
            taken, other = b.append_basic_block(), b.append_basic_block()
            fits = b.icmp_signed(">=", left, self.number(size))
            if size == 3:  # 4 is better cut into 2 + 2 than into 3 + 1
                fits = b.and_(fits, b.icmp_signed("!=", left, self.number(4)))
            b.cbranch(fits, taken, other)
            b.position_at_end(taken)
            body(start, size)
            b.store(b.add(start, self.number(size)), place)
            b.branch(head)
            b.position_at_end(other)
        b.unreachable()  # a piece of 1 always fits
        b.position_at_end(end)
