"""VDM checks 1, 2, 3 and 9, Make-A-Video checks 1, 2, 3, 8 and 9, Imagen Video checks 5 and 6, Video LDM checks 1 to 3."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange

from noisereel.nets.attention import Attention, SpatialAttention
from noisereel.nets.temporal import Temporal, TemporalAttention
from noisereel.nets.unet import UNet
from noisereel.types import Cond, Hint, Text

SMALL: dict[str, Any] = dict(
    width=16, multipliers=(1, 2), depth=1, attention=(False, True), head_width=8, norm_groups=4, text_dim=12, pooled_dim=10
)
IMAGE: dict[str, Any] = dict(
    temporal_attention="none", temporal_transformer="none", temporal_entry=0, temporal_conv="none", blend=False
)
KINDS: dict[str, dict[str, Any]] = {
    "VDM": dict(temporal_attention="relative"),
    "Make-A-Video": dict(temporal_attention="sinusoidal", temporal_conv="series", scalars=("fps",)),
    "Imagen Video": dict(temporal_attention="none", temporal_conv="residual", attention=(False, False)),
    "Video LDM": dict(
        temporal_attention="rotary",
        temporal_conv="residual",
        blend=True,
        attention_kind="transformer",
        scale_shift=False,
        temporal_transformer="text",
    ),
    "text-to-video-sd": dict(
        temporal_attention="unordered",
        temporal_conv="deep",
        clip_norms=True,
        attention_kind="transformer",
        scale_shift=False,
        temporal_transformer="twice",
        temporal_entry=3,
    ),
}


def net(loud: bool = True, **config: Any) -> UNet:
    """A small network; ``loud`` fills the weights that are born zero, except the columns of a hint."""
    torch.manual_seed(0)
    made = UNet(**(SMALL | config))
    if loud:
        for name, parameter in made.named_parameters():
            if not parameter.any() or name.endswith("mix"):
                torch.nn.init.normal_(parameter, std=0.1)
    return made


def text(clips: int, seed: int = 0) -> Text:
    rng = torch.Generator().manual_seed(seed)
    mask = torch.rand(clips, 5, generator=rng) > 0.3
    tokens, pooled = torch.randn(clips, 5, 12, generator=rng), torch.randn(clips, 10, generator=rng)
    return Text(tokens=tokens, mask=mask, pooled=pooled)


def video(samples: int = 2, frames: int = 5, size: int = 8, channels: int = 3) -> torch.Tensor:
    return torch.randn(samples, channels, frames, size, size, generator=torch.Generator().manual_seed(1))


def packed() -> tuple[torch.Tensor, torch.Tensor, Cond]:
    """Two samples of three video frames and two images, with six captions."""
    groups = torch.tensor([[0, 0, 0, 1, 2], [5, 5, 5, 4, 3]])
    return video(), torch.tensor([0.3, 0.8]), Cond(text=text(6), fps=torch.arange(6) + 1.0, groups=groups)


def assert_close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", list(KINDS))
def test_images_and_video_do_not_see_each_other(kind: str) -> None:
    made = net(**KINDS[kind])
    x, t, cond = packed()
    with torch.no_grad():
        before = made(x, t, cond)
        for frame, others in ((3, [0, 1, 2, 4]), (4, [0, 1, 2, 3]), (1, [3, 4])):
            changed = x.clone()
            changed[:, :, frame] += 3
            after = made(changed, t, cond)
            assert (after - before)[:, :, others].abs().max() == 0.0
            assert (after - before)[:, :, frame].abs().max() > 1e-3
    assert (after - before)[:, :, [0, 2]].abs().max() > 1e-6  # the video's own frames do


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_pack_is_its_parts(kind: str) -> None:
    made = net(**KINDS[kind])
    x, t, cond = packed()
    assert cond.text is not None
    assert cond.fps is not None
    assert cond.groups is not None
    with torch.no_grad():
        whole = made(x, t, cond)
        for sample in range(2):
            for frames in ([0, 1, 2], [3], [4]):
                clip = int(cond.groups[sample, frames[0]])
                one = Text(**{k: getattr(cond.text, k)[clip : clip + 1] for k in ("tokens", "mask", "pooled")})
                alone = Cond(text=one, fps=cond.fps[clip : clip + 1])
                part = made(x[sample : sample + 1, :, frames], t[sample : sample + 1], alone)
                assert_close(part, whole[sample : sample + 1, :, frames])


@pytest.mark.parametrize("kind", list(KINDS))
def test_samples_do_not_see_each_other(kind: str) -> None:
    made, x, t = net(**KINDS[kind]), video(), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        both = made(x, t, Cond(text=text(2)))
        second = Text(tokens=text(2).tokens[1:], mask=text(2).mask[1:], pooled=text(2).pooled[1:])
        assert_close(made(x[1:], t[1:], Cond(text=second)), both[1:])


def test_norms_see_one_frame() -> None:
    made, x, t = net(temporal_attention="none"), video(), torch.rand(2)
    changed = x.clone()
    changed[:, :, 2] += 3
    cond = Cond(text=text(2))
    with torch.no_grad():
        difference = (made(changed, t, cond) - made(x, t, cond)).abs().amax((0, 1, 3, 4))
    assert difference[2] > 1e-3
    assert difference[[0, 1, 3, 4]].max() == 0.0


def inflate(kind: str) -> tuple[UNet, UNet]:
    """An image network that has learned something, and the video network that is born from it."""
    options = KINDS[kind]
    image, born = net(**(options | IMAGE)), net(loud=False, **options)
    born.load_image(image.state_dict())
    return image, born


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_video_network_is_born_as_the_image_network_of_each_frame(kind: str) -> None:
    image, born = inflate(kind)
    x, t = video(), torch.tensor([0.2, 0.7])
    one = text(2)
    frames = Text(**{k: getattr(one, k).repeat_interleave(5, 0) for k in ("tokens", "mask", "pooled")})
    with torch.no_grad():
        per_frame = image(rearrange(x, "b c t h w -> (b t) c 1 h w"), t.repeat_interleave(5), Cond(text=frames))
        assert_close(born(x, t, Cond(text=one)), rearrange(per_frame, "(b t) c 1 h w -> b c t h w", b=2))


@pytest.mark.parametrize("kind", list(KINDS))
def test_temporal_parameters_learn_and_are_all_that_is_new(kind: str) -> None:
    image, born = inflate(kind)
    temporal = list(born.temporal_parameters())
    count = sum(parameter.numel() for parameter in image.parameters())
    assert sum(parameter.numel() for parameter in born.parameters()) - sum(p.numel() for p in temporal) == count
    assert len({id(parameter) for parameter in temporal}) == len(temporal)
    rest = {name: p.clone() for name, p in born.named_parameters() if not any(p is q for q in temporal)}
    optimiser = torch.optim.SGD(temporal, lr=0.1)
    x, t, cond = video(), torch.tensor([0.2, 0.7]), Cond(text=text(2))
    for _ in range(3):  # a step for each of the zeros between a layer and the output
        optimiser.zero_grad()
        (born(x, t, cond) - x.flip(2)).square().mean().backward()
        optimiser.step()
    for name, parameter in born.named_parameters():
        if name in rest:
            assert torch.equal(parameter, rest[name])
        elif "to_k" not in name or not name.endswith("bias"):
            assert parameter.grad is not None
            assert parameter.grad.any(), name


def test_alpha_one_is_the_image_network_exactly() -> None:
    image, born = inflate("Video LDM")
    for parameter in born.temporal_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for module in born.modules():
        if isinstance(module, Temporal):
            assert module.mix is not None
            torch.nn.init.constant_(module.mix, 200.0)
    x, t, cond = video(frames=1), torch.rand(2), Cond(text=text(2))
    clip = video()
    with torch.no_grad():
        assert torch.equal(born(x, t, cond), image(x, t, cond))
        switched_off = born(clip, t, cond)
        swapped = clip[:, :, [4, 1, 2, 3, 0]]
        assert torch.equal(born(swapped, t, cond), switched_off[:, :, [4, 1, 2, 3, 0]])


def test_a_hint_is_ignored_at_birth_and_not_for_ever() -> None:
    plain, hinted = net(), net(loud=False, hint_channels=4)
    own = hinted.state_dict()
    own.update({name: weight for name, weight in plain.state_dict().items() if name != "conv_in.weight"})
    own["conv_in.weight"][:, :3] = plain.conv_in.weight.detach()
    hinted.load_state_dict(own)
    x, t, cond = video(), torch.rand(2), Cond(text=text(2))
    given = replace(cond, hint=Hint(channels=video(channels=4) * 7, noise=torch.rand(2)))
    out = hinted(x, t, given)
    assert_close(out, plain(x, t, cond))
    out.square().mean().backward()
    assert hinted.conv_in.weight.grad[:, 3:].any()


def test_scalars_reach_the_output_only_through_their_embedding() -> None:
    made, x, t = net(hint_channels=1, scalars=("fps", "hint_noise")), video(), torch.rand(2)
    hint = Hint(channels=torch.zeros(2, 1, 5, 8, 8), noise=torch.tensor([0.1, 0.2]))
    base = Cond(text=text(2), fps=torch.tensor([4.0, 8.0]), hint=hint)
    slower = replace(base, fps=torch.tensor([2.0, 8.0]))
    noisier = replace(base, hint=replace(hint, noise=torch.tensor([0.1, 0.9])))
    with torch.no_grad():
        out = made(x, t, base)
        assert not torch.allclose(made(x, t, slower)[0], out[0], atol=1e-4)
        assert torch.equal(made(x, t, slower)[1], out[1])
        assert not torch.allclose(made(x, t, noisier)[1], out[1], atol=1e-4)
        for embedding in made.scalars.values():
            for parameter in embedding.mlp[2].parameters():
                parameter.zero_()
        out = made(x, t, base)
        assert torch.equal(made(x, t, slower), out)
        assert torch.equal(made(x, t, noisier), out)


def test_text_that_is_absent_or_all_masked_is_finite() -> None:
    made, x, t = net(), video(), torch.rand(2)
    empty = replace(text(2), mask=torch.zeros(2, 5, dtype=torch.bool))
    loud = replace(empty, tokens=empty.tokens * 100)
    with torch.no_grad():
        assert made(x, t, Cond(text=empty)).isfinite().all()
        assert torch.equal(made(x, t, Cond(text=empty)), made(x, t, Cond(text=loud)))
        silent = replace(empty, pooled=torch.zeros(2, 10))
        assert made(x, t, Cond()).isfinite().all()
        assert made(x, t, Cond(text=silent)).isfinite().all()


@pytest.mark.parametrize("kind", list(KINDS))
def test_bf16_is_close(kind: str) -> None:
    made = net(**KINDS[kind])
    x, t, cond = packed()
    with torch.no_grad():
        exact = made(x, t, cond)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = made(x, t, cond)
        half = made.bfloat16()(x, t, cond)
    for out in (mixed, half):
        assert out.dtype == torch.float32
        assert (out - exact).norm() / exact.norm() < 0.03


def test_without_attention_any_size_runs_and_the_inside_of_a_crop_agrees() -> None:
    made = net(**KINDS["Imagen Video"], pooled_dim=0, text_dim=0)
    with torch.no_grad():
        assert made(video(size=6), torch.rand(2), Cond()).shape == (2, 3, 5, 6, 6)
    assert not any(isinstance(module, (Attention, TemporalAttention)) for module in made.modules())


def test_attention_is_where_it_was_asked_for() -> None:
    made = net(multipliers=(1, 2, 2), attention=(False, False, True), depth=2)
    blocks = [block for block in made.blocks if hasattr(block, "res")]
    assert [block.res.norm2.num_channels for block in blocks if hasattr(block, "attention")] == [32] * 6
    assert all(hasattr(block, "temporal_attention") == hasattr(block, "attention") for block in blocks)
    assert [hasattr(block, "attention") for block in blocks] == [False] * 4 + [True] * 3 + [False] + [True] * 3 + [False] * 6
    assert sum(isinstance(module, SpatialAttention) for module in made.modules()) == 6


@pytest.mark.parametrize(("depth", "depths"), [(2, (2, 2, 2)), ((1, 3, 2), (1, 3, 2))])
def test_parameter_count(depth: Any, depths: tuple[int, ...]) -> None:
    """Counted from the description of VDM's network, layer by layer; with as many blocks on every level, or more on some."""
    width, multipliers, heads, pooled = 32, (1, 2, 4), 16, 24
    made = UNet(
        width=width, multipliers=multipliers, depth=depth, attention=(False, True, True), head_width=heads, pooled_dim=pooled
    )
    embed = 4 * width

    def conv(a: int, b: int) -> int:
        return 9 * a * b + b

    def res(a: int, b: int) -> int:
        return 2 * a + conv(a, b) + (embed + 1) * 2 * b + 2 * b + conv(b, b) + (a * b + b if a != b else 0)

    def attention(a: int) -> int:
        each = 2 * a + 3 * a * a + a * a + a  # norm, queries, keys, values, output
        return 2 * each + 2 * 65 * heads  # in space and in time, with 65 distances for keys and for values

    widths = [width * m for m in multipliers]
    total = (width + 1) * embed + (pooled + 1) * embed + 2 * (embed + 1) * embed + conv(3, width)
    skips, now = [width], width
    for level, b in enumerate(widths):
        for _ in range(depths[level]):
            total, now = total + res(now, b) + (attention(b) if level else 0), b
            skips.append(b)
        if level < 2:
            total += conv(b, b)
            skips.append(b)
    total += 2 * res(now, now) + attention(now)
    for level, b in reversed(list(enumerate(widths))):
        for _ in range(depths[level] + 1):
            total, now = total + res(now + skips.pop(), b) + (attention(b) if level else 0), b
        total += conv(b, b) if level else 0
    total += 2 * width + conv(width, 3)
    assert sum(parameter.numel() for parameter in made.parameters()) == total


@pytest.mark.parametrize("kind", list(KINDS))
def test_config_rebuilds_the_network(kind: str) -> None:
    made = net(**KINDS[kind])
    again = UNet(**json.loads(json.dumps(made.config)))
    again.load_state_dict(made.state_dict())
    assert json.dumps(again.config) == json.dumps(made.config)
    x, t, cond = packed()
    with torch.no_grad():
        assert torch.equal(again(x, t, cond), made(x, t, cond))
        assert not net(loud=False, **KINDS[kind])(x, t, cond).any()  # at birth the output is 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(temporal_attention="learned"), "temporal_attention is 'learned'; choose one of none, relative"),
        (dict(scalars=("speed",)), "scalars has speed; known are fps, hint_noise"),
        (dict(multipliers=(1, 2, 4)), "multipliers has 3 levels"),
        (dict(depth=(1, 2, 3)), "attention, head_width and depth need as many"),
        (dict(depth=(1, 0)), "every level has at least 1 block"),
        (dict(norm_groups=5), "norm_groups=5 does not divide"),
        (dict(head_width=12), "head_width=12 does not divide"),
        (dict(pooled_tokens=4, text_dim=0), "pooled_tokens=4 needs pooled_dim and text_dim"),
    ],
)
def test_a_bad_option_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**(SMALL | config))


def test_bad_input_is_named() -> None:
    made = net()
    with pytest.raises(ValueError, match="7x7; height and width must be multiples of 2"):
        made(video(size=7), torch.rand(2), Cond())
    with pytest.raises(ValueError, match="takes 0 hint channels and was given 3"):
        made(video(), torch.rand(2), Cond(hint=Hint(channels=video())))


@torch.no_grad()
def test_pooled_text_becomes_tokens_of_its_own() -> None:
    """unCLIP, section 2.1: four tokens of an image embedding, beside those of the text or without any."""
    made = net(pooled_tokens=4)
    x, t = video(), torch.tensor([0.3, 0.8])
    pooled = torch.randn(2, 10, generator=torch.Generator().manual_seed(0))
    told = Text(tokens=torch.zeros(2, 0, 12), mask=torch.zeros(2, 0, dtype=torch.bool), pooled=pooled)
    given = made.pooled_tokens(pooled).unflatten(1, (4, 12))
    # The same network without the option, handed those tokens as text.
    plain = net()
    plain.load_state_dict({name: tensor for name, tensor in made.state_dict().items() if not name.startswith("pooled_tokens.")})
    as_text = Text(tokens=given, mask=torch.ones(2, 4, dtype=torch.bool), pooled=pooled)
    torch.testing.assert_close(made(x, t, Cond(text=told)), plain(x, t, Cond(text=as_text)))
    groups = torch.tensor([[0, 0, 0, 1, 1], [1, 1, 0, 0, 0]])
    torch.testing.assert_close(
        made(x, t, Cond(text=told, groups=groups)), plain(x, t, Cond(text=as_text, groups=groups)), atol=1e-5, rtol=1e-5
    )
    words = replace(as_text, tokens=torch.cat([as_text.tokens[:, :2] * 2, given], 1), mask=torch.ones(2, 6, dtype=torch.bool))
    beside = Text(tokens=words.tokens[:, :2], mask=words.mask[:, :2], pooled=pooled)
    torch.testing.assert_close(made(x, t, Cond(text=beside)), plain(x, t, Cond(text=words)))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["VDM", "Make-A-Video"])
def test_a_network_that_is_given_a_hint_takes_over_from_one_that_is_not(kind: str) -> None:
    made, told = net(**KINDS[kind]), UNet(**(SMALL | KINDS[kind] | dict(hint_channels=4)))
    told.take(made)
    x, t = video(), torch.tensor([0.3, 0.8])
    hint = Hint(channels=torch.randn(2, 4, *x.shape[2:], generator=torch.Generator().manual_seed(0)))
    assert torch.equal(told(x, t, Cond(hint=hint)), made(x, t, Cond()))
    with pytest.raises(ValueError, match="same network without its hint"):
        told.take(net(**KINDS[kind], depth=2))
