"""The paper's counterexample: gradients of a slow Hamiltonian network grow with depth, as its figure shows."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "counterexample.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("counterexample", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("eps", [1.0, 0.1])
def test_sensitivities_grow_in_proportion_to_the_depth(script: ModuleType, eps: float) -> None:
    net = script.slow_oscillator(eps, layers=1600, step=0.05 / eps)
    found = script.sensitivities(net, script.published_start()).numpy()
    norms = np.linalg.norm(found, 2, axis=(1, 2))
    assert norms.min() >= 1 - 1e-9 and np.allclose(np.linalg.det(found), 1, atol=1e-10)
    entries = np.abs(found).max(axis=(1, 2))
    early, late = entries[700:800].max(), entries[1500:1600].max()  # a period has about 140 layers
    assert 1.8 < norms[-1] / norms[799] < 2.2 and 1.7 < late / early < 2.3


def test_it_is_the_published_iteration(script: ModuleType) -> None:
    """p and q in turn, each by h eps tanh of the other; the start is drawn with the published seed."""
    net, y0 = script.slow_oscillator(0.7, layers=5, step=0.05), script.published_start()
    assert np.allclose(y0.numpy(), [[0.79314958, 0.60902689]], atol=1e-8)
    p, q = y0[0].tolist()
    for _ in range(5):
        p -= 0.7 * 0.05 * np.tanh(q)
        q += 0.7 * 0.05 * np.tanh(p)
    assert np.allclose(net(y0).detach().numpy(), [[p, q]], rtol=1e-14)
