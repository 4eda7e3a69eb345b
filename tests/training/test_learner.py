"""What moves, how far, and that it comes back."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisereel.training.learner import Learner


def learner(net: nn.Module, groups: list[dict[str, Any]] | None = None) -> Learner:
    groups = groups or [{"params": net.parameters()}]
    return Learner({"net": net}, groups, learning_rate=1e-2, betas=(0.9, 0.99), weight_decay=0.0)


def gradients(net: nn.Module, scale: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_clipping_keeps_the_direction_and_bounds_the_length(scale: float) -> None:
    net = nn.Linear(3, 2)
    before = gradients(net, scale)
    length = torch.cat([gradient.flatten() for gradient in before]).double().norm()
    found = learner(net).clip(0.5)
    torch.testing.assert_close(found.double(), length, rtol=1e-6, atol=0)
    factor = min(1.0, 0.5 / length.item())
    for gradient, parameter in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient * factor, rtol=1e-5, atol=0)
        assert scale > 1 or torch.equal(parameter.grad, gradient)


def test_the_first_step_is_the_rate_times_the_sign() -> None:
    net = nn.Linear(3, 2)
    before, mover = [p.detach().clone() for p in net.parameters()], learner(net)
    signs = [gradient.sign() for gradient in gradients(net, 1.0)]
    mover.move(rate=0.5, decay=0.75)
    for old, new, sign, average in zip(before, net.parameters(), signs, mover.ema.average, strict=True):
        torch.testing.assert_close(new, old - 0.5e-2 * sign, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(average, 0.75 * old + 0.25 * new)


def test_the_state_comes_back_in_the_layout_of_the_weights() -> None:
    torch.manual_seed(0)
    one, two = (nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2))
    first, second = learner(one), learner(two)
    for _ in range(3):
        gradients(one, 1.0)
        first.move(1.0, 0.9)
    two.load_state_dict(one.state_dict())
    second.load_state({name: value.contiguous() for name, value in first.state().items()})
    for net, mover in ((one, first), (two, second)):
        gradients(net, 2.0)
        mover.move(1.0, 0.9)
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert all(map(torch.equal, first.ema.average, second.ema.average))
    assert second.ema.average[0].is_contiguous(memory_format=torch.channels_last)
    assert second.optimizer.state[two.weight]["exp_avg"].stride() == two.weight.stride()


def test_parameters_outside_the_parts_are_a_mistake() -> None:
    with pytest.raises(AssertionError, match="none of its parts holds"):
        learner(nn.Linear(1, 1), [{"params": nn.Linear(1, 1).parameters()}])
