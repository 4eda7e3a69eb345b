"""VDM checks 4 and 5, Make-A-Video check 1, Imagen Video check 5, Video LDM checks 1 and 2, on single layers."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from noisereel.nets.frames import Frames
from noisereel.nets.layers import Context, Conv
from noisereel.nets.norm import FrameNorm
from noisereel.nets.temporal import SeriesConv, Temporal, TemporalAttention, TemporalBranch, TemporalConv, clip_norm

POSITIONS = ("relative", "sinusoidal", "rotary")
B, T, C = 2, 5, 16


def context(groups: list[list[int]] | None = None, frames: int = T) -> Context:
    layout = Frames.of(B, frames, None if groups is None else torch.tensor(groups))
    return Context(frames=layout, embedding=torch.zeros(B * frames, 8))


def maps(frames: int = T, seed: int = 0) -> torch.Tensor:
    x = torch.randn(B * frames, C, 3, 4, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


def attention(positions: str) -> TemporalAttention:
    torch.manual_seed(1)
    layer = TemporalAttention(C, 2, positions)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer


def conv() -> TemporalConv:
    torch.manual_seed(1)
    return TemporalConv(C, 8)


@pytest.mark.parametrize("positions", POSITIONS)
def test_attention_commutes_with_any_permutation_of_pixels(positions: str) -> None:
    layer, x = attention(positions), maps()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))

    def permute(y: torch.Tensor) -> torch.Tensor:
        return y.flatten(2)[:, :, order].view_as(y).contiguous(memory_format=torch.channels_last)

    torch.testing.assert_close(layer(permute(x), context()), permute(layer(x, context())), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_attention_knows_the_direction_of_time(positions: str) -> None:
    layer, x = attention(positions), maps()

    def reverse(y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(0, (B, T)).flip(1).flatten(0, 1)

    assert (reverse(layer(reverse(x), context())) - layer(x, context())).abs().max() > 1e-2


@pytest.mark.parametrize("positions", ["relative", "rotary"])
def test_only_the_distance_of_frames_counts(positions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = attention(positions), maps()
    before = layer(x, context())
    plain = Frames.positions
    monkeypatch.setattr(Frames, "positions", lambda self, device: plain(self, device) + 7)
    torch.testing.assert_close(layer(x, context()), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("positions", "knows"), [("relative", True), ("sinusoidal", True), ("rotary", False)])
def test_frames_that_are_alike_are_told_apart_only_by_what_is_in_the_values(positions: str, knows: bool) -> None:
    """In noise alone nothing else says which frame is the first; rotary positions are in the logits, and softmax loses them."""
    still = (
        maps().unflatten(0, (B, T))[:, :1].expand(-1, T, -1, -1, -1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    )
    out = attention(positions)(still, context()).unflatten(0, (B, T))
    assert bool((out - out[:, :1]).abs().max() > 1e-2) == knows


def test_relative_positions_are_those_of_the_paper() -> None:
    """Every weight and value by loops over Shaw et al. 2018, equations 3 and 4."""
    layer, x = attention("relative"), maps()
    assert layer.relative is not None
    width, reach = C // layer.heads, layer.relative.reach
    y = layer.norm(x.unflatten(0, (B, T)).permute(0, 1, 3, 4, 2))[1, :, 2, 3]
    q, k, v = (project(y).unflatten(-1, (layer.heads, width)) for project in (layer.to_q, layer.to_k, layer.to_v))
    out = torch.zeros(T, layer.heads, width)
    for i in range(T):
        for head in range(layer.heads):
            keys = torch.stack([k[j, head] + layer.relative.keys[reach + j - i] for j in range(T)])
            values = torch.stack([v[j, head] + layer.relative.values[reach + j - i] for j in range(T)])
            out[i, head] = (keys @ q[i, head] / width**0.5).softmax(0) @ values
    expected = layer.to_out(out.flatten(1))
    torch.testing.assert_close(layer(x, context())[T:, :, 2, 3], expected, rtol=1e-4, atol=1e-4)


GROUPINGS = {
    "clip and images": [[0, 0, 0, 1, 2], [3, 3, 3, 4, 5]],
    "images": [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]],
    "two clips": [[0, 0, 0, 1, 1], [2, 2, 3, 3, 3]],
    "interleaved": [[0, 1, 0, 1, 0], [2, 3, 4, 3, 2]],
}


def layers() -> dict[str, torch.nn.Module]:
    def loud(module: torch.nn.Module) -> torch.nn.Module:
        torch.manual_seed(3)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return module

    found: dict[str, torch.nn.Module] = {f"attention, {positions}": attention(positions) for positions in POSITIONS}
    found["blended attention"] = loud(Temporal(TemporalAttention(C, 2, "rotary"), blend=True))
    found["residual"] = loud(Temporal(TemporalBranch(C, 8, norm_groups=4), blend=False))
    found["blended residual"] = loud(Temporal(TemporalBranch(C, 8, norm_groups=4), blend=True))
    return found


@pytest.mark.parametrize("name", list(layers()))
@pytest.mark.parametrize("grouping", list(GROUPINGS))
def test_packed_clips_are_the_clips_run_by_themselves(name: str, grouping: str) -> None:
    """Every clip of every grouping, run alone as a video of its own length, gives what it gives in the pack."""
    layer, x, groups = layers()[name], maps(), GROUPINGS[grouping]
    packed = layer(x, context(groups)).unflatten(0, (B, T))
    for sample, row in enumerate(groups):
        for group in set(row):
            members = [j for j, other in enumerate(row) if other == group]
            clip = x.unflatten(0, (B, T))[sample, members].contiguous(memory_format=torch.channels_last)
            frames = Frames.of(1, len(members), None)
            alone = layer(clip, Context(frames=frames, embedding=torch.zeros(len(members), 8)))
            torch.testing.assert_close(packed[sample, members], alone, rtol=1e-4, atol=1e-5)


def test_convolution_is_that_of_three_dimensions() -> None:
    layer, x = conv(), maps()
    video = x.unflatten(0, (B, T)).transpose(1, 2)
    expected = F.conv3d(video, layer.conv.weight[..., None], layer.conv.bias, padding=(1, 0, 0))
    torch.testing.assert_close(layer(x, context().frames).unflatten(0, (B, T)).transpose(1, 2), expected, rtol=1e-5, atol=1e-5)


def test_convolution_gives_a_frame_alone_exactly_nothing() -> None:
    layer, x = conv(), maps()
    for groups in GROUPINGS.values():
        out = layer(x, context(groups).frames).unflatten(0, (B, T))
        for sample, row in enumerate(groups):
            for j, group in enumerate(row):
                assert bool(out[sample, j].any()) == (row.count(group) > 1)


@pytest.mark.parametrize("grouping", [None, *GROUPINGS])
def test_series_convolution_is_the_spatial_one_at_birth_and_for_images_for_ever(grouping: str | None) -> None:
    torch.manual_seed(0)
    spatial = Conv(C, C, 3, padding=1)
    series, x = SeriesConv(spatial), maps()
    frames = context(GROUPINGS[grouping] if grouping else None).frames
    assert torch.equal(series(x, frames), spatial(x, frames))
    torch.nn.init.normal_(series.temporal.conv.weight)
    changed = (series(x, frames) != spatial(x, frames)).flatten(1).any(1).float()
    assert torch.equal(changed, frames.mixing(x).flatten())


def test_blend_at_alpha_one_is_the_image_network_exactly() -> None:
    layer, x = layers()["blended residual"], maps()
    assert isinstance(layer, Temporal)
    assert layer.mix is not None
    assert not torch.equal(layer(x, context()), x)
    torch.nn.init.constant_(layer.mix, 200.0)
    assert torch.equal(layer(x, context()), x)


def test_a_frame_alone_passes_a_blend_untouched_but_not_vdm_attention() -> None:
    x, alone = maps(), context([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    assert torch.equal(layers()["blended attention"](x, alone), x)
    layer = attention("rotary")
    y = layer.norm(x.permute(0, 2, 3, 1))
    expected = layer.to_out(layer.to_v(y)).permute(0, 3, 1, 2)
    torch.testing.assert_close(layer(x, alone), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grouping", [None, *GROUPINGS])
def test_clip_norm_is_the_group_norm_of_each_whole_clip(grouping: str | None) -> None:
    torch.manual_seed(0)
    norm, x = FrameNorm(4, C), maps() + 1
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    groups = GROUPINGS[grouping] if grouping else None
    out = clip_norm(norm, x, context(groups).frames, silu=True).unflatten(0, (B, T))
    for sample, row in enumerate(groups or [[0] * T] * B):
        for group in set(row):
            members = [j for j, other in enumerate(row) if other == group]
            clip = x.unflatten(0, (B, T))[sample, members].transpose(0, 1)[None]
            expected = F.silu(F.group_norm(clip, 4, norm.weight, norm.bias, norm.eps))[0].transpose(0, 1)
            torch.testing.assert_close(out[sample, members], expected, rtol=1e-4, atol=1e-5)


def test_branch_reads_the_embedding() -> None:
    layer, x = layers()["residual"], maps()
    plain = context()
    assert not torch.equal(layer(x, plain), layer(x, replace(plain, embedding=torch.ones(B * T, 8))))
