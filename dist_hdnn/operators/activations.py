"""Activations σ: the value and the slope of one smooth elementwise function, in preallocated memory.

PyTorch computes most elements of a tensor by vector instructions and the last few one by one, with other last bits. So
in a deterministic network, where a worker's share of the agents decides which elements come last, functions are
evaluated in whole blocks.
Shapes: (neurons, batch) throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 256  # elements, a multiple of all that a vector instruction and an unrolled loop take at a time
BLOCKS = 64  # at a time: below 32768 elements PyTorch's threads do not split a tensor, which would make new ends


@dataclass(frozen=True)
class Activation:
    """σ and σ'. `function` is elementwise and differentiable by autograd; tanh has a closed form that needs no u.

    in_blocks: every element's bits depend on that element alone, not on where it lies or beside how many others.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    in_blocks: bool = False

    @property
    def keeps_argument(self) -> bool:
        """Whether σ' needs the argument u: tanh' = 1 - tanh² needs the value alone."""
        return self.function is not torch.tanh  # a function of a user may have that name too

    def value(self, u: Tensor, out: Tensor) -> Tensor:
        """Compute z = σ(u)."""
        if not self.keeps_argument:
            return torch.tanh(u, out=out)
        return out.copy_(self._evaluated(u))

    def integral(self, u: Tensor) -> Tensor:
        """Return σ̃(u) with σ̃' = σ, up to a constant. Raises ValueError where no closed form is known."""
        if self.name not in INTEGRALS or self.function is not ACTIVATIONS[self.name]:
            raise ValueError(
                f"energy: expected an activation with a known integral ({', '.join(INTEGRALS)}), got {self.name}. "
                "Choose one of these."
            )
        return INTEGRALS[self.name](u)

    def times_slope(self, g: Tensor, u: Tensor | None, z: Tensor, out: Tensor) -> Tensor:
        """Compute w = g ⊙ σ'(u), from z alone for tanh. `out` must not be z."""
        if u is None:
            return torch.ops.aten.tanh_backward.grad_input(g, z, grad_input=out)  # type: ignore[no-any-return]
        with torch.enable_grad():
            argument = u.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._evaluated(argument), argument, g)
        return out.copy_(slope)

    def _evaluated(self, u: Tensor) -> Tensor:
        if not self.in_blocks:
            return self.function(u)
        size = u.numel()
        blocks = torch.nn.functional.pad(u.reshape(-1), (0, -size % BLOCK)).view(-1, BLOCK)
        return torch.cat([self.function(part) for part in blocks.split(BLOCKS)]).view(-1)[:size].view(u.shape)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "arctan": torch.atan,
    "sin": torch.sin,
    "softplus": torch.nn.functional.softplus,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
}


INTEGRALS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda u: u.abs() + torch.nn.functional.softplus(-2 * u.abs()) - math.log(2.0),
    "sigmoid": torch.nn.functional.softplus,
    "arctan": lambda u: u * u.atan() - 0.5 * torch.log1p(u * u),
    "sin": lambda u: 1 - u.cos(),
}


def activation(choice: str | Callable[[Tensor], Tensor], in_blocks: bool = False) -> Activation:
    """Look an activation up by name, or wrap a smooth elementwise function. in_blocks: as in `Activation`.

    Raises ValueError for an unknown name, or a function that changes shape or mixes elements.
    """
    if isinstance(choice, str):
        if choice not in ACTIVATIONS:
            raise ValueError(
                f"network.activation: expected one of {', '.join(ACTIVATIONS)}, got '{choice}'. "
                "Choose one of these, or pass a smooth elementwise function in Python."
            )
        return Activation(choice, ACTIVATIONS[choice], in_blocks)
    probe = torch.linspace(-2, 2, 5, dtype=torch.float64)
    together, alone = choice(probe), torch.cat([choice(value.reshape(1)) for value in probe])
    if together.shape != probe.shape or not torch.allclose(together, alone):
        name = getattr(choice, "__name__", "activation")
        raise ValueError(
            f"activation {name}: expected an elementwise function, got one that changes the shape or mixes elements. "
            "Pass a function such as torch.tanh."
        )
    return Activation(getattr(choice, "__name__", "custom"), choice, in_blocks)
