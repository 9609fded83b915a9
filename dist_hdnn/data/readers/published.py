"""MNIST and Fashion-MNIST: where their four files are, whether they are the published ones, and how to fetch them.

The digest is of the unpacked content, so files packed anew pass and a single changed pixel does not.
Sources: LeCun, Cortes and Burges (MNIST); Xiao, Rasul and Vollgraf, arXiv:1708.07747 (Fashion-MNIST).
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.readers.idx import PARTS, find_idx, parse_idx, read_bytes

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


def published_arrays(name: str, folder: Path | None, download: bool) -> dict[str, npt.NDArray[np.generic]]:
    """The four arrays of "mnist" or "fashion_mnist": uint8 images (n, 28, 28) and labels (n,).

    folder: holds the files, plain or gzipped; None for data/<name> in the working directory, else the cache in the home
    directory. download: fetch into the cache what is not there.
    ValueError for a missing, damaged or foreign file, and when the server cannot be reached.
    """
    cache = (CACHE / name).expanduser()
    usual = (HERE / name, HERE / name.replace("_", "-"), cache)
    folders = tuple(dict.fromkeys(usual)) if folder is None else (folder,)
    return {part: _verified(_located(name, part, folders, cache, download), name, part) for part in PARTS}


def _located(name: str, part: str, folders: tuple[Path, ...], cache: Path, download: bool) -> Path:
    searched = dict.fromkeys((*folders, cache) if download else folders)
    path = next((found for folder in searched if (found := find_idx(folder, part))), None)
    if path is not None:
        return path
    if not download:
        words = "a folder without it" if any(folder.is_dir() for folder in folders) else "no such folder"
        raise ValueError(
            f"data.name={name}: expected {PARTS[part]}.gz in {' or '.join(map(str, folders))}, got {words}; set "
            f"data.folder to the folder of the four IDX files, or data.download=true to fetch them into {cache}"
        )
    return _downloaded(SOURCES[name] + f"{PARTS[part]}.gz", cache / f"{PARTS[part]}.gz", SHA256[name][part])


def _downloaded(address: str, path: Path, digest: str) -> Path:
    """Fetch a file; it appears whole and with the right content, or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:  # noqa: S310
            part.write_bytes(answer.read())
        if hashlib.sha256(read_bytes(part)).hexdigest() != digest:
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


def _verified(path: Path, name: str, part: str) -> npt.NDArray[np.generic]:
    content = read_bytes(path)
    array = parse_idx(content, path)
    if hashlib.sha256(content).hexdigest() != SHA256[name][part]:
        raise ValueError(
            f"IDX file {path}: expected the published content of {name}, got another sha256; copy it again, or set "
            "data.name=idx for images of your own"
        )
    return array
