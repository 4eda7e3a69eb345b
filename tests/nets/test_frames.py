import pytest
import torch

from noisereel.nets.frames import Frames


def brute(groups: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Position, previous and next frame inside the clip, by going through the list."""
    position = [groups[:j].count(group) for j, group in enumerate(groups)]
    before = [max((i for i in range(j) if groups[i] == group), default=-1) for j, group in enumerate(groups)]
    after = [min((i for i in range(j + 1, len(groups)) if groups[i] == group), default=-1) for j, group in enumerate(groups)]
    return position, before, after


def test_any_grouping_is_read_as_by_hand() -> None:
    rows = [[0, 1, 0, 2, 1, 0], [3, 3, 3, 3, 3, 3], [4, 5, 5, 6, 5, 7]]
    frames = Frames.of(3, 6, torch.tensor(rows))
    assert frames.clip == 0
    before, after = frames.neighbours()
    for j, row in enumerate(rows):
        position, previous, following = brute(row)
        assert frames.positions(torch.device("cpu"))[j].tolist() == position
        assert (before[j] - 1).tolist() == previous
        assert (after[j] - 1).tolist() == following
        assert frames.mixing(torch.zeros(1))[j].tolist() == [float(row.count(group) > 1) for group in row]


@pytest.mark.parametrize(
    ("rows", "clip"),
    [
        ([[0, 0, 0, 1, 2], [3, 3, 3, 5, 4]], 3),
        ([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], 5),
        ([[0, 1, 2, 3, 4], [9, 8, 7, 6, 5]], 1),
        ([[0, 0, 0, 1, 2], [3, 3, 4, 5, 6]], 0),
        ([[0, 1, 1, 1, 2], [3, 4, 4, 4, 5]], 0),
    ],
)
def test_a_clip_with_images_behind_it_is_recognised(rows: list[list[int]], clip: int) -> None:
    frames = Frames.of(2, 5, torch.tensor(rows))
    assert frames.clip == clip
    expected = [[float(row.count(group) > 1) for group in row] for row in rows]
    assert frames.mixing(torch.zeros(1)).tolist() == expected


def test_no_groups_is_one_clip() -> None:
    assert Frames.of(2, 5, None) == Frames(samples=2, count=5, clip=5)


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(2, 5\)"):
        Frames.of(2, 5, torch.zeros(2, 4, dtype=torch.long))
