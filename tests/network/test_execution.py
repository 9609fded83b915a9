"""How a network is computed is one `Execution`; the names that HDNN had for its parts still work, and warn."""

from typing import Any

import pytest
import torch

import dist_hdnn
from dist_hdnn import Execution
from dist_hdnn.dynamics.architectures import architecture

RING = dist_hdnn.ring(4)
OLD: dict[str, tuple[dict[str, Any], Execution]] = {
    "plan": ({"plan": "torch"}, Execution(products="torch")),
    "deterministic": ({"deterministic": True}, Execution(deterministic=True)),
    "memory": ({"memory": "recompute", "keep_every": 2}, Execution(memory="recompute", keep_every=2)),
    "keep_dtype": ({"keep_dtype": torch.bfloat16}, Execution(keep_dtype=torch.bfloat16)),
    "cuda_graphs": ({"cuda_graphs": True}, Execution(cuda_graphs=True)),
    "check_batches": ({"check_batches": False}, Execution(check_batches=False)),
}


@pytest.mark.parametrize("name", OLD)
def test_an_old_name_still_works_and_says_the_new_one(name: str) -> None:
    options, expected = OLD[name]
    with pytest.warns(DeprecationWarning, match=r"HDNN: .* moved; use execution=Execution\(") as caught:
        net = dist_hdnn.HDNN(RING, layers=4, **options)
    assert net.execution == expected
    assert caught[0].filename == __file__, "the warning points to the line to change"


def test_overlap_has_no_effect_and_says_so() -> None:
    with pytest.warns(DeprecationWarning, match="overlap has no effect"):
        assert dist_hdnn.HDNN(RING, layers=4, overlap=True).execution == Execution()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("widht", "did you mean width?"),
        ("memmory", "did you mean memory?"),
        ("products", "use execution=Execution(products=...)"),
        ("zebra", "see help(dist_hdnn.HDNN)"),
    ],
)
def test_a_name_that_never_was_one_is_refused(name: str, remedy: str) -> None:
    with pytest.raises(TypeError) as caught:
        dist_hdnn.HDNN(RING, **{name: 3})
    assert str(caught.value) == f"HDNN: got an unexpected argument '{name}'; {remedy}"


def test_an_execution_is_an_execution_and_is_given_once() -> None:
    assert dist_hdnn.HDNN(RING, layers=4, execution=None).execution == Execution()
    with pytest.raises(TypeError, match="expected execution to be a dist_hdnn.Execution, got dict"):
        dist_hdnn.HDNN(RING, layers=4, execution={"memory": "store"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected memory inside execution=Execution"):
        dist_hdnn.HDNN(RING, layers=4, execution=Execution(), memory="store")


@pytest.mark.parametrize("options", [{"layers": 2.0}, {"layers": True}, {"layers": 4, "memory": {"keep_every": 2.5}}])
def test_numbers_of_layers_are_whole(options: dict[str, Any]) -> None:
    kept = options.pop("memory", None)
    execution = None if kept is None else Execution(memory="recompute", **kept)
    with pytest.raises(ValueError, match=r"network\.(layers: expected a whole|keep_every: expected a) number"):
        dist_hdnn.HDNN(RING, execution=execution, **options)


def test_rounded_states_of_store_are_the_starts_of_layers_that_run_again() -> None:
    found = architecture("hamiltonian")
    assert Execution(keep_dtype="bfloat16").kept(found, 8, 1, torch.float32) == ("recompute", 1, "bfloat16")
    assert Execution(keep_dtype="bfloat16").kept(found, 8, 3, "float32") == ("recompute", 3, "bfloat16")
    assert Execution(keep_dtype="float32").kept(found, 8, 1, "float32") == ("store", 0, None)
    assert Execution(memory="recompute").kept(found, 64, 1, "float32") == ("recompute", 8, None)
