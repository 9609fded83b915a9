"""IDX files, the format of MNIST: a magic number, the sizes, then the numbers, big-endian; plain or gzipped.

    bytes 0 0 | type | dimensions     then one 32-bit size a dimension, then the numbers, last dimension fastest

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section on file formats.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PARTS = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
"""The names of the four files of a data set, without .gz."""


def find_idx(folder: Path, part: str) -> Path | None:
    """The file of one of PARTS in a folder, gzipped or not; None where there is none."""
    return next((path for path in (folder / f"{PARTS[part]}.gz", folder / PARTS[part]) if path.is_file()), None)


def read_bytes(path: Path) -> bytes:
    """The content of an IDX file, unpacked where it is gzipped. ValueError when it cannot be read or unpacked."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"IDX file {path}: expected a whole gzip file, got {str(error) or 'damage'}; copy it again"
        ) from None
    except OSError as error:
        raise ValueError(f"IDX file {path}: expected a readable file, got {error.strerror}; check its rights") from None


def parse_idx(content: bytes, path: Path) -> npt.NDArray[np.generic]:
    """The array in the content of an IDX file, in its own type and shape; path: for messages.

    ValueError for a wrong magic number, a size that the content does not fill, or content beyond it.
    """
    kind, dimensions = (content[2], content[3]) if len(content) >= 4 else (0, 0)
    if content[:2] != b"\0\0" or kind not in TYPES or dimensions == 0:
        raise ValueError(
            f"IDX file {path}: expected the magic number 0x0000{0x08:02x}01 or alike (two zero bytes, a type, the "
            f"number of dimensions), got 0x{content[:4].hex() or 'nothing'}; give the original IDX file"
        )
    start = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(content[4:start].ljust(4 * dimensions, b"\0"), ">u4"))
    number = np.dtype(TYPES[kind])
    expected = start + int(np.prod(shape, dtype=object)) * number.itemsize
    if len(content) != expected or len(content) < start:
        what = "it is truncated" if len(content) < expected else "it holds more"
        raise ValueError(
            f"IDX file {path}: expected {expected} bytes for {' x '.join(map(str, shape))} numbers, got "
            f"{len(content)}; {what}, copy it again"
        )
    return np.frombuffer(content, number, offset=start).reshape(shape)


def read_idx(path: Path) -> npt.NDArray[np.generic]:
    """The array in an IDX file, plain or gzipped. Raises ValueError, one line that names the file."""
    return parse_idx(read_bytes(path), path)
