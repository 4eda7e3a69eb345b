import pytest
import torch
from torch import nn

from noisereel.nets.tiled import Tiled, ramp, shares
from noisereel.types import Cond, Hint, Times, Video


class Blur(nn.Module):
    """Sees one position around each, the hint too; and would see a tile's border."""

    multiple = 1

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.conv = nn.Conv3d(6, 3, (1, 3, 3), padding=(0, 1, 1))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Video, t: Times, cond: Cond) -> Video:
        self.seen.append(tuple(x.shape[-2:]))
        return self.conv(torch.cat([x, cond.hint.channels], dim=1))

    def temporal_parameters(self) -> list[nn.Parameter]:
        return []


def video(*size: int) -> Video:
    return torch.randn(2, 3, 2, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (23, 37), (8, 41)])
def test_a_network_that_sees_no_further_than_a_quarter_of_the_overlap_gives_the_same_tiled_and_whole(
    size: tuple[int, int],
) -> None:
    net, x, cond = Blur(), video(*size), Cond(hint=Hint(channels=video(*size).flip(-1)))
    with torch.no_grad():
        whole = net(x, torch.ones(2), cond)
        net.seen.clear()
        tiled = Tiled(net, tile=8, overlap=4)(x, torch.ones(2), cond)
    assert torch.allclose(tiled, whole, atol=1e-6)
    assert max(max(seen) for seen in net.seen) <= 8
    assert len(net.seen) == len(list(shares(size[0], 8, 4))) * len(list(shares(size[1], 8, 4)))


def test_a_border_that_two_tiles_see_differently_is_faded_over() -> None:
    class Own(Blur):
        def forward(self, x: Video, t: Times, cond: Cond) -> Video:
            self.seen.append(())
            return torch.full_like(x, len(self.seen))  # tile 1 says 1, tile 2 says 2

    row = Tiled(Own(), tile=8, overlap=4)(torch.zeros(1, 3, 1, 1, 12), torch.ones(1), Cond())[0, 0, 0, 0]
    assert row.tolist() == pytest.approx([1] * 5 + [1.25, 1.75] + [2] * 5)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(5, 8, 4), (8, 8, 4), (9, 8, 4), (100, 8, 3), (100, 16, 0), (31, 16, 8)]
)
def test_tiles_cover_everything_and_are_of_one_size(length: int, tile: int, overlap: int) -> None:
    total = torch.zeros(length)
    for part, weight in shares(length, tile, overlap):
        assert part.stop - part.start == len(weight) == min(tile, length)
        total[part] += weight
    assert total.min() >= 1 - 1e-6, "two ramps add up to one; where the last tile was moved back there is more"


def test_the_ramp_ignores_its_margins() -> None:
    assert ramp(8).tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
    assert ramp(4, after=4).tolist() == [1, 1, 1, 1], "a step"
    assert ramp(4, after=3).tolist() == [0, 1, 1, 1], "a step"
    assert torch.allclose(ramp(9) + ramp(9).flip(0), torch.ones(9))


@pytest.mark.parametrize(("tile", "overlap"), [(9, 2), (8, 3), (8, 6), (0, 0)])
def test_tiles_that_the_network_cannot_take_are_refused(tile: int, overlap: int) -> None:
    net = Blur()
    net.multiple = 2
    with pytest.raises(ValueError, match="use multiples of 2, and an overlap of at most half"):
        Tiled(net, tile, overlap)
