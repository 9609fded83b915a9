"""Files of published networks: what they must hold, and what is said of those that do not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn.exporting.published import from_published

Arrays = dict[str, np.ndarray]


def written(folder: Path, arrays: Arrays) -> Path:
    path = folder / "network.npz"
    np.savez(path, **arrays)
    return path


def ms1(layers: int = 3, half: int = 4) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "h": np.array(0.3),
        "y0": rng.normal(size=(2, 2 * half)),
        "K0": rng.normal(size=(layers, half, half)),
        "b": rng.normal(size=(layers, 2 * half)),
    }


def h1(n: int = 5) -> Arrays:
    rng = np.random.default_rng(0)
    J = np.triu(np.ones((n, n)), 1)
    return {
        "h": np.array(0.1),
        "y0": rng.normal(size=(2, n)),
        "K": rng.normal(size=(2, n, n)),
        "b": rng.normal(size=(2, n)),
        "J": J - J.T,
    }


def test_agents_share_the_neurons_of_a_published_network(tmp_path: Path) -> None:
    path = written(tmp_path, ms1())
    alone, together = from_published(path), from_published(path, dist_hdnn.complete(2))
    y = torch.from_numpy(alone.arrays["y0"])
    first, second = (found.network(y[:, found.order])[:, np.argsort(found.order)] for found in (alone, together))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("change", "graph", "message"),
    [
        (lambda a: a.pop("K0"), None, "expected h, y0 and the weights of one of MS1, MS3"),
        (lambda a: a.pop("h"), None, "expected h, y0 and the weights of one of"),
        (lambda a: a.update(K0=a["K0"][:, :3]), None, r"expected K0 of shape \(3, 4, 4\).*got \(3, 3, 4\)"),
        (lambda a: a.update(b=a["b"][:2]), None, r"expected b of shape \(3, 8\).*got \(2, 8\)"),
        (lambda a: a.update(y0=a["y0"][0]), None, "expected y0 .batch, n. and K0"),
        (lambda a: a.update(h=np.zeros(2)), None, "expected h of shape"),
        (lambda a: a.update(h=np.array(-1.0)), None, "network.step: expected a positive number"),
        (lambda a: None, dist_hdnn.ring(3), "expected a number of agents that divides its 4 neurons, got 3"),
        (lambda a: None, dist_hdnn.path(4), "expected K0 to be zero between agents that are not linked"),
        (lambda a: (a.update(h1()), a.pop("K0"), a.update(J=np.ones((5, 5)))), None, "network.J: expected a skew"),
        (lambda a: (a.update(h1()), a.pop("K0"), a.pop("J")), None, "expected an antisymmetric K"),
        (
            lambda a: a.update(K_first=a["K0"], K_second=a["K0"], J=np.eye(8), K0=a["K0"]) or a.pop("K0"),
            None,
            "expected J = ",
        ),
    ],
)
def test_a_file_of_the_wrong_shape_or_kind_is_named(
    change: Callable[[Arrays], object], graph: object, message: str, tmp_path: Path
) -> None:
    arrays = ms1()
    change(arrays)
    with pytest.raises(ValueError, match=message) as caught:
        from_published(written(tmp_path, arrays), graph)
    assert "\n" not in str(caught.value)


def test_what_is_no_such_file_is_named(tmp_path: Path) -> None:
    text, single = tmp_path / "a.npz", tmp_path / "b.npy"
    text.write_text("no arrays here")
    np.save(single, np.ones(3))
    objects = tmp_path / "c.npz"
    np.savez(objects, h=np.array([{}], dtype=object))
    for path in (text, single, objects, tmp_path / "none.npz", tmp_path):
        with pytest.raises(ValueError, match="expected an .npz file of arrays") as caught:
            from_published(path)
        assert "\n" not in str(caught.value)
