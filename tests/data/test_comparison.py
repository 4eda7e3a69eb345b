import torch

from noisereel.data.comparison import GAP, LABEL, side_by_side


def test_every_stage_is_shown_at_the_size_and_length_of_the_last() -> None:
    first = torch.tensor([-1.0, 1.0])[None, :, None, None].expand(3, 2, 30, 40)
    last = torch.linspace(-1, 1, 4)[None, :, None, None].expand(3, 4, 90, 120)
    shown = side_by_side({"base": first, "larger": last})
    assert shown.shape == (3, 4, 90 + LABEL, 120 + GAP + 120)
    assert shown[0, :, -1, 0].tolist() == [-1, -1, 1, 1], "frames of the first are repeated"
    assert torch.equal(shown[:, :, LABEL:, 120 + GAP :], last)
    assert torch.equal(shown[:, :, :, 120 : 120 + GAP], torch.ones(3, 4, 90 + LABEL, GAP))
    assert shown[:, :, :LABEL, :120].min() < 0 < shown[:, :, :LABEL, :120].mean(), "a label, black on white"


def test_a_label_has_room_over_a_small_video() -> None:
    small = torch.zeros(3, 1, 4, 4)
    shown = side_by_side({"a stage of a long name": small})
    assert shown.shape[3] > 60
    assert torch.equal(shown[:, :, LABEL:, :4], small)
