"""Activations: integrals against their derivative, slopes against differences."""

import pytest
import torch

from dist_hdnn.operators.activations import ACTIVATIONS, INTEGRALS, activation

POINTS = torch.linspace(-6, 6, 49, dtype=torch.float64)


@pytest.mark.parametrize("name", INTEGRALS)
def test_an_integral_has_the_activation_as_its_derivative(name: str) -> None:
    sigma, u = activation(name), POINTS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(sigma.integral(u).sum(), u)
    # softplus(-2|u|) and |u| have a kink each at 0, where autograd takes one side
    away = POINTS != 0
    torch.testing.assert_close(slope[away], sigma.function(POINTS)[away])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_slope_is_the_limit_of_differences(name: str) -> None:
    sigma, h = activation(name), 1e-6
    z = sigma.value(POINTS, torch.empty_like(POINTS))
    argument = POINTS if sigma.keeps_argument else None
    slope = sigma.times_slope(torch.ones_like(z), argument, z, torch.empty_like(z))
    difference = (sigma.function(POINTS + h) - sigma.function(POINTS - h)) / (2 * h)
    torch.testing.assert_close(slope, difference, rtol=1e-7, atol=1e-8)


def test_an_unknown_integral_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="known integral .*tanh.* got gelu"):
        activation("gelu").integral(POINTS)


def test_a_function_of_a_user_is_itself_whatever_its_name() -> None:
    def tanh(u: torch.Tensor) -> torch.Tensor:
        return torch.sin(u)

    own, u = activation(tanh), torch.linspace(-2, 2, 9, dtype=torch.float64)
    z, w = torch.empty_like(u), torch.empty_like(u)
    torch.testing.assert_close(own.value(u, out=z), u.sin())
    torch.testing.assert_close(own.times_slope(torch.ones_like(u), u, z, out=w), u.cos())
    assert own.keeps_argument and not activation("tanh").keeps_argument and not activation(torch.tanh).keeps_argument
    with pytest.raises(ValueError, match="expected an activation with a known integral"):
        own.integral(u)
