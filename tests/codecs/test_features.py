"""A distance of features that is a distance, and is LPIPS when given its weights."""

import torch
from torch import Tensor

from noisereel.codecs.features import FeatureNet
from noisereel.types import generators, rand


def clips(count: int = 2, frames: int = 3, seed: int = 0) -> Tensor:
    return rand(generators(seed, range(count)), 3, frames, 16, 16) * 2 - 1


def net() -> FeatureNet:
    torch.manual_seed(0)
    return FeatureNet(stages=((4, 4), (8,), (8, 8)))


def test_each_stage_has_half_the_size_of_the_one_before() -> None:
    assert [tuple(maps.shape) for maps in net()(torch.zeros(2, 3, 16, 24))] == [(2, 4, 16, 24), (2, 8, 8, 12), (2, 8, 4, 6)]


def test_equal_videos_have_no_distance_and_others_have_one_both_ways() -> None:
    one, two, features = clips(), clips(seed=1), net()
    assert torch.equal(features.distance(one, one), torch.zeros(2))
    assert (features.distance(one, two) > 0.01).all()
    assert torch.equal(features.distance(one, two), features.distance(two, one))


def test_it_grows_with_the_difference() -> None:
    one, two, features = clips(), clips(seed=1), net()
    distances = torch.stack([features.distance(one.lerp(two, share), one) for share in (0.0, 0.05, 0.2, 1.0)])
    assert (distances.diff(dim=0) > 0).all()


def test_a_clip_is_the_mean_of_its_frames() -> None:
    one, two, features = clips(), clips(seed=1), net()
    frames = [features.distance(one[:, :, t : t + 1], two[:, :, t : t + 1]) for t in range(3)]
    torch.testing.assert_close(features.distance(one, two), torch.stack(frames).mean(0))


def test_the_gradient_is_finite_where_nothing_is_seen_and_goes_to_the_video_alone() -> None:
    features = net()
    for conv in features.stages[1]:
        for parameter in conv.parameters():
            torch.nn.init.zeros_(parameter)
    video, truth = clips().requires_grad_(), clips(seed=1).requires_grad_()
    features.distance(video, truth).sum().backward()
    assert video.grad is not None
    assert video.grad.isfinite().all()
    assert video.grad.abs().max() > 0
    assert truth.grad is None


def test_in_bf16_it_is_about_the_same() -> None:
    one, two, features = clips(), clips(seed=1), net()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features.distance(one, two)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, features.distance(one, two), rtol=0.05, atol=0)
