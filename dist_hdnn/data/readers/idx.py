"""IDX files, the format of MNIST, and the data sets that come in them: MNIST, Fashion-MNIST, images of one's own.

    bytes 0 0 | type | dimensions     then a 32-bit size per dimension, then the numbers, big-endian, last one fastest

An image becomes a row of height x width pixels (float32), which `standardised` shifts and scales.
Sources: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section on file formats; Xiao, Rasul and
Vollgraf, arXiv:1708.07747 (Fashion-MNIST).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.arrays import Task, dataset_of
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.splits import UNSTATED, Cut

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PARTS = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
"""The names of the four files of a data set, without .gz."""
HERE = Path("data")  # in the working directory
CACHE = Path("~/.cache/dist_hdnn")
SECONDS = 30.0  # to wait for an answer of the server
SOURCES = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
SHA256 = {
    "mnist": {
        "train_x": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train_y": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "test_x": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "test_y": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        "train_x": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train_y": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "test_x": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "test_y": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}


def published(name: str, folder: Path | None = None, download: bool = False, cut: Cut = UNSTATED) -> Dataset:
    """MNIST ("mnist") or Fashion-MNIST ("fashion_mnist") with their own split, 60 000 + 10 000 images of 28 x 28.

    folder: holds the files, plain or gzipped; None for data/<name> in the working directory, else the cache in the home
    directory. download: fetch into the cache what is not there.
    ValueError for a missing, damaged or foreign file, and when the server cannot be reached.
    """
    cache = (CACHE / name).expanduser()
    usual = (HERE / name, HERE / name.replace("_", "-"), cache)
    folders = usual if folder is None else (folder,)
    arrays = {}
    for part in PARTS:
        digest = SHA256[name][part]
        if not download:
            remedy = f"set data.folder to their folder, or data.download=true to fetch all four into {cache}"
            path = _path_of(f"data.name={name}", part, folders, remedy)
        else:
            path = _find(part, (*folders, cache)) or _downloaded(
                SOURCES[name] + f"{PARTS[part]}.gz", cache / f"{PARTS[part]}.gz", digest
            )
        arrays[part] = read_idx(path, name, digest)
    return dataset_of(arrays, Task(name, classes=10, images=True, cut=cut))


def idx_folder(folder: Path, classes: int | None = None, cut: Cut = UNSTATED) -> Dataset:
    """Read the data set in a folder of four IDX files named as those of MNIST, plain or gzipped."""
    paths = {part: _path_of("data.folder", part, (folder,), "correct data.folder") for part in PARTS}
    arrays = {part: read_idx(path) for part, path in paths.items()}
    return dataset_of(arrays, Task(folder.name, f"data.folder {folder}", classes, images=True, cut=cut))


def _find(part: str, folders: Sequence[Path]) -> Path | None:
    """Return the file of one of PARTS in the first folder that has it, gzipped or not, else None."""
    paths = (folder / f"{PARTS[part]}{suffix}" for folder in folders for suffix in (".gz", ""))
    return next((path for path in paths if path.is_file()), None)


def _path_of(who: str, part: str, folders: Sequence[Path], remedy: str) -> Path:
    """Return the file of one of PARTS. ValueError where no folder has it."""
    if (path := _find(part, folders)) is not None:
        return path
    name, places = PARTS[part], " or ".join(map(str, dict.fromkeys(folders)))
    got = "a folder without it" if any(folder.is_dir() for folder in folders) else "no such folder"
    raise ValueError(f"{who}: expected {name} or {name}.gz in {places}, got {got}; {remedy}")


def read_idx(path: Path, name: str = "", digest: str = "") -> npt.NDArray[np.generic]:
    """Read the array in an IDX file, plain or gzipped. ValueError, one line that names the file.

    name, digest: of a published data set, whose file has this SHA-256.
    """
    content = _content(path)
    array = _parsed(content, path)
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(
            f"IDX file {path}: expected the published content of {name}, got another sha256; copy it again, or set "
            "data.name=idx for images of your own"
        )
    return array


def _content(path: Path) -> bytes:
    """Read an IDX file, and unpack it where it is gzipped. ValueError for a file that cannot be read or unpacked."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"IDX file {path}: expected a whole gzip file, got {str(error) or 'damage'}; copy it again"
        ) from None
    except OSError as error:
        raise ValueError(f"IDX file {path}: expected a readable file, got {error.strerror}; check its rights") from None


def _parsed(content: bytes, path: Path) -> npt.NDArray[np.generic]:
    """Return the array in the content of an IDX file, in its own type and shape. path: for messages.

    ValueError for a wrong magic number, a size that the content does not fill, or content beyond it.
    """
    kind, dimensions = (content[2], content[3]) if len(content) >= 4 else (0, 0)
    if content[:2] != b"\0\0" or kind not in TYPES or dimensions == 0:
        raise ValueError(
            f"IDX file {path}: expected a magic number such as 0x00000801 (two zero bytes, a type, the number of "
            f"dimensions), got 0x{content[:4].hex() or 'nothing'}; give the original IDX file"
        )
    start = 4 + 4 * dimensions  # of the numbers, behind the magic number and the sizes
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


def _downloaded(address: str, path: Path, digest: str) -> Path:
    """Fetch a file, which appears whole and with the right content, or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:  # noqa: S310
            part.write_bytes(answer.read())
        if hashlib.sha256(_content(part)).hexdigest() != digest:
            raise ValueError(
                f"data.download: expected the published content from {address}, got another sha256; "
                "try again later, or give the files by data.folder"
            )
        os.replace(part, path)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(
            f"data.download: cannot reach {address} ({reason}); connect to it, or give the files by data.folder"
        ) from None
    except OSError as error:
        raise ValueError(
            f"data.download: cannot write {path} ({error.strerror}); make room there, or give the files by data.folder"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return path
