"""The optimizers are PyTorch's: the same bits after many steps, and the same answers to what a state holds."""

import inspect

import pytest
import torch

from dist_hdnn.training.optimizers import OPTIMIZERS, WRAPPED

THEIRS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def stepped(kind: type, fused: bool) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 37))
    groups = [{"params": [weight], "weight_decay": 0.1}]
    optimizer = kind(groups, lr=0.05, betas=(0.9, 0.95), fused=fused)
    for step in range(20):
        optimizer.zero_grad(set_to_none=True)
        ((weight - step / 20) ** 2).sum().backward()
        optimizer.step()
    return weight, optimizer


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_have_the_bits_of_pytorch(name: str, fused: bool) -> None:
    (weight, optimizer), (theirs, other) = (stepped(kinds[name], fused) for kinds in (OPTIMIZERS, THEIRS))
    assert torch.equal(weight, theirs) and isinstance(optimizer, THEIRS[name])
    ours, others = (found.state_dict()["state"][0] for found in (optimizer, other))
    assert ours.keys() == others.keys() and all(torch.equal(ours[key], others[key]) for key in ours)
    assert weight.requires_grad and torch.is_grad_enabled()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_method_leads_to_the_compiler(name: str) -> None:
    for method in WRAPPED:
        assert not hasattr(getattr(OPTIMIZERS[name], method), "__wrapped__")
    step = inspect.unwrap(OPTIMIZERS[name].step)
    assert not any("_dynamo" in used for used in step.__code__.co_names)
