"""The average against its closed form."""

import pytest
import torch
from torch import nn

from noisereel.training.ema import RAMP, Ema, decay


def test_the_average_is_the_weighted_sum_of_all_weights() -> None:
    history = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    parameter, keep = nn.Parameter(history[0].clone()), 0.9
    average = Ema([parameter])
    for weights in history[1:]:
        parameter.data.copy_(weights)
        average.update(keep)
    ages = torch.arange(29, -1, -1, dtype=torch.float64)
    shares = keep**ages * torch.where(ages == 29, 1.0, 1 - keep)  # the first weights were the whole average once
    torch.testing.assert_close(average.average[0], (shares @ history.double()).float(), rtol=1e-5, atol=1e-6)


def test_a_half_life_halves_whatever_the_batch() -> None:
    late = 10**9
    assert decay(1000, late, 1000) == 0.5
    assert decay(1000, late, 10) ** 100 == pytest.approx(0.5)
    assert decay(1000, late, 10) == pytest.approx(decay(1000, late, 5) ** 2)


def test_early_on_the_half_life_is_a_share_of_what_was_seen() -> None:
    assert decay(1000, 0, 8) == 0.0  # the random start is forgotten at once
    assert decay(1000, 400, 20) == 0.5 ** (20 / (RAMP * 400))
    assert decay(0, 10**9, 8) == 0.0  # no average: the weights themselves


def test_applied_and_adopted_weights() -> None:
    layer = nn.Conv2d(2, 2, 3).to(memory_format=torch.channels_last)
    average = Ema(list(layer.parameters()))
    start = [parameter.detach().clone() for parameter in layer.parameters()]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 1 / 3
    moved = [parameter.detach().clone() for parameter in layer.parameters()]
    with average.applied():
        assert all(map(torch.equal, layer.parameters(), start))
    assert all(map(torch.equal, layer.parameters(), moved))
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    average.adopt()
    assert all(map(torch.equal, layer.parameters(), start))
