"""IDX files: what is read from them, that MNIST is MNIST, how it is fetched, and how a file can be bad."""

import functools
import gzip
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
from images import idx_bytes, write_idx_digits

from dist_hdnn.data.readers import idx as fetching
from dist_hdnn.data.readers.idx import PARTS, idx_folder, published, read_idx

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_comes_back_from_its_idx_file(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "images"
    content = idx_bytes(PIXELS)
    path.write_bytes(gzip.compress(content) if packed else content)
    array = read_idx(path)
    assert array.dtype == np.uint8 and np.array_equal(array, PIXELS)


def test_numbers_of_several_bytes_are_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(bytes([0, 0, 0x0D, 1, 0, 0, 0, 2]) + np.array([1.5, -2.0], dtype=">f4").tobytes())
    assert read_idx(path).tolist() == [1.5, -2.0]


GOOD = idx_bytes(PIXELS)
BAD = {
    "magic": (b"\x89PNG" + GOOD[4:], "expected a magic number .* got 0x89504e47"),
    "type": (b"\0\0\x07\x03" + GOOD[4:], "expected a magic number .* got 0x00000703"),
    "empty": (b"", "expected a magic number .* got 0xnothing|got nothing"),
    "truncated": (GOOD[:-1], "expected 40 bytes for 2 x 3 x 4 numbers, got 39; it is truncated"),
    "header": (GOOD[:10], "it is truncated, copy it again"),
    "longer": (GOOD + b"\0", "expected 40 bytes .* got 41; it holds more"),
    "gzip": (gzip.compress(GOOD)[:-12], "expected a whole gzip file"),
    "gzip bits": (gzip.compress(GOOD)[:-5] + b"\1" * 5, "expected a whole gzip file"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_idx_file_is_a_one_line_error_that_names_it(tmp_path: Path, fault: str) -> None:
    content, message = BAD[fault]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"IDX file {path}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_four_files_is_a_data_set_of_images(tmp_path: Path, packed: bool) -> None:
    data = idx_folder(write_idx_digits(tmp_path / "numerals", packed))
    assert (data.name, data.image, data.classes) == ("numerals", (8, 8, 1), 10)
    assert data.train_x.shape == (300, 64) and data.test_x.shape == (100, 64)
    assert data.train_x.dtype == np.float32 and data.train_y.dtype == np.int64


def test_a_folder_that_lacks_a_file_is_named(tmp_path: Path) -> None:
    folder = write_idx_digits(tmp_path / "numerals")
    (folder / f"{PARTS['test_y']}.gz").unlink()
    with pytest.raises(ValueError, match=r"data.folder: expected t10k-labels-idx1-ubyte or .* got a folder without it"):
        idx_folder(folder)
    with pytest.raises(ValueError, match="got no such folder"):
        idx_folder(tmp_path / "nowhere")


def test_mnist_is_not_taken_from_files_of_other_content(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the published content of mnist, got another.*data.name=idx"):
        published("mnist", write_idx_digits(tmp_path))


def test_without_files_and_download_the_error_names_both_remedies(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got no such folder; set data.folder .* or data.download=true"):
        published("fashion_mnist", tmp_path / "nowhere")


def test_without_a_folder_the_working_directory_is_searched_and_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetching, "CACHE", tmp_path / "cache")
    places = "data/fashion_mnist or data/fashion-mnist or .*cache/fashion_mnist, got no such folder; .*data.download"
    with pytest.raises(ValueError, match=places):
        published("fashion_mnist")
    write_idx_digits(tmp_path / "cache" / "mnist")
    with pytest.raises(ValueError, match="IDX file .*cache/mnist/train-images.*another sha256"):
        published("mnist")
    write_idx_digits(tmp_path / "data" / "mnist")
    with pytest.raises(ValueError, match="IDX file data/mnist/train-images.*another sha256"):
        published("mnist")


def test_offline_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fetching.SOURCES, "mnist", "http://127.0.0.1:9/")  # where nobody listens
    monkeypatch.setattr(fetching, "CACHE", tmp_path / "cache")
    with pytest.raises(ValueError, match="cannot reach http://127.0.0.1:9/train-images.* give the files") as caught:
        published("mnist", download=True)
    assert "\n" not in str(caught.value) and not list((tmp_path / "cache" / "mnist").iterdir())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serves the digits as if they were MNIST; the folder that is served."""
    folder = write_idx_digits(tmp_path / "served")
    digests = {p: hashlib.sha256(gzip.decompress((folder / f"{PARTS[p]}.gz").read_bytes())).hexdigest() for p in PARTS}
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setitem(fetching.SOURCES, "mnist", f"http://127.0.0.1:{running.server_port}/")
        monkeypatch.setitem(fetching.SHA256, "mnist", digests)
        monkeypatch.setattr(fetching, "CACHE", tmp_path / "cache")
        yield folder
        running.shutdown()


def test_a_download_is_checked_and_kept_for_the_next_time(server: Path, tmp_path: Path) -> None:
    first = published("mnist", download=True)
    assert first.train_x.shape == (300, 64)
    for path in server.iterdir():
        path.unlink()
    assert np.array_equal(published("mnist").train_x, first.train_x)
    assert np.array_equal(published("mnist", tmp_path / "empty", download=True).train_x, first.train_x)


def test_a_download_of_other_content_is_refused_and_not_kept(server: Path, tmp_path: Path) -> None:
    path = server / f"{PARTS['train_x']}.gz"
    path.write_bytes(gzip.compress(GOOD))
    with pytest.raises(ValueError, match="expected the published content from http.*, got another sha256"):
        published("mnist", download=True)
    assert not list((tmp_path / "cache" / "mnist").iterdir())


def test_a_file_that_the_server_lacks_is_a_one_line_error(server: Path) -> None:
    (server / f"{PARTS['train_x']}.gz").unlink()
    with pytest.raises(ValueError, match="cannot reach .*train-images-idx3-ubyte.gz"):
        published("mnist", download=True)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist")])
def test_the_published_files_are_recognised(shared: Path, name: str, folder: str) -> None:
    data = published(name, shared / "data" / folder)
    assert data.train_x.shape == (60_000, 784) and data.test_x.shape == (10_000, 784)
    assert (data.image, data.classes) == ((28, 28, 1), 10) and data.train_x.max() == 255
