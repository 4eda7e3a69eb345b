"""Where tokens lie: logits depend on differences alone, text does not turn, frames are scaled into the size trained for."""

import pytest
import torch

from noisereel.nets.fused import turn
from noisereel.nets.positions import Positions, coordinates, fit, sincos

CPU = torch.device("cpu")


def positions(fitted: tuple[int, ...] = ()) -> Positions:
    return Positions("rope", 48, (8, 8, 8), fitted=fitted, scale=(1, 1, 1), table=())


def test_logits_depend_on_differences_of_coordinates_alone() -> None:
    torch.manual_seed(0)
    grid = (4, 5, 6)
    rotation = positions().rotation([(grid, 0)], CPU)
    assert rotation is not None
    q, k = (turn(torch.randn(1, 1, 1, 24).expand(1, 1, 120, 24), rotation)[0, 0] for _ in range(2))
    logits = (q @ k.T).reshape(*grid, *grid)
    near = logits[0, 1, 2, 2, 4, 3]  # two frames, three rows, one column apart
    assert torch.allclose(logits[1, 0, 4, 3, 3, 5], near, atol=1e-5)
    assert torch.allclose(logits[1, 1, 0, 3, 4, 1], near, atol=1e-5)
    assert not torch.allclose(logits[2, 4, 3, 0, 1, 2], near, atol=1e-3)  # the other way round


def test_text_does_not_turn() -> None:
    rotation = positions().rotation([((2, 1, 1), 3), ((1, 2, 1), 1)], CPU)
    assert rotation is not None
    x = torch.randn(1, 2, 8, 24)
    turned = turn(x, rotation)
    assert torch.equal(turned[:, :, [0, 1, 2, 3, 5]], x[:, :, [0, 1, 2, 3, 5]])  # the first patch of each lies at the origin
    assert not torch.equal(turned[:, :, 4], x[:, :, 4])


def test_coordinates_count_frames_then_rows_then_columns() -> None:
    assert coordinates((2, 2, 3))[[0, 1, 3, 6]].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_a_frame_of_the_size_trained_for_counts_in_whole_patches() -> None:
    assert torch.equal(coordinates((3, 30, 45), (30, 45)), coordinates((3, 30, 45)))


@pytest.mark.parametrize(
    ("grid", "ends"),
    [((1, 30, 45), [(0, 29), (0, 44)]), ((1, 15, 15), [(0, 28), (8, 38 * 14 / 15)]), ((1, 10, 30), [(8, 23 * 0.9), (0, 43.5)])],
)
def test_a_frame_of_another_size_is_scaled_into_the_middle(grid: tuple[int, int, int], ends: list[tuple[float, float]]) -> None:
    assert fit(grid, (30, 45)) == [pytest.approx(pair) for pair in ends]


def test_waves_differ_wherever_places_do() -> None:
    waves = sincos(coordinates((3, 4, 5)), 48)
    apart = torch.cdist(waves, waves) + 10 * torch.eye(60)
    assert float(apart.min()) > 0.3
