"""Tensors written to a safetensors file as a stream that is hashed on its way, without a second copy in memory.

The library's own writer builds the whole file in memory and holds the interpreter while it does, so training could not
continue beside it. Reading is left to the library.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 23  # bytes hashed and written at a time
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int | str]:
    """Write contiguous tensors in host memory; returns the file's "bytes" and "sha256" once it is on the disk.

    Raises OSError.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())  # so that every tensor is aligned
    header, end = {}, 0
    for name, tensor in ordered:
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end := end + tensor.nbytes],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for data in (memoryview(len(text).to_bytes(8, "little") + text), *(_memory(tensor) for _, tensor in ordered)):
            for start in range(0, len(data), CHUNK):
                part = data[start : start + CHUNK]
                digest.update(part)
                file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": 8 + len(text) + end, "sha256": digest.hexdigest()}


def _memory(tensor: Tensor) -> memoryview:
    memory: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(memory) if tensor.numel() else memoryview(b"")
