"""Video LDM checks 1 to 3, 5, 8 and 9 on a whole network: the image network inside, and what the temporal layers are given."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from noisereel.nets.frames import Frames
from noisereel.nets.layers import Context
from noisereel.nets.temporal import Temporal, TemporalAttention
from noisereel.nets.unet import UNet
from noisereel.types import Cond, Hint, Text

IMAGE: dict[str, Any] = dict(
    channels=4, width=16, multipliers=(1, 2), depth=1, attention=(True, False), head_width=8, norm_groups=4, text_dim=12,
    attention_kind="transformer", scale_shift=False, temporal_attention="none",
)  # fmt: skip
TEMPORAL: dict[str, Any] = dict(
    temporal_attention="sinusoidal", temporal_transformer="text", temporal_conv="residual", blend=True, hint_channels=5,
    hint_path="temporal",
)  # fmt: skip
T = 5


def network(seed: int = 0, trained: bool = True, **config: Any) -> UNet:
    """A network that is new, or has learned something everywhere."""
    torch.manual_seed(seed)
    net = UNet(**(IMAGE | config))
    for parameter in net.parameters() if trained else ():
        if parameter.ndim != 1 or not parameter.any():  # not the gains of the norms
            torch.nn.init.normal_(parameter, std=0.15)
    return net


def video(of: UNet, *, trained: bool = True) -> UNet:
    """A video network around an image network."""
    net = network(9, trained, **TEMPORAL)
    net.load_image(of.state_dict())
    return net


def blend(net: UNet, mix: float) -> UNet:
    for module in net.modules():
        if isinstance(module, Temporal):
            assert module.mix is not None
            torch.nn.init.constant_(module.mix, mix)
    return net


def clip(frames: int = T, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, frames, 8, 8, generator=torch.Generator().manual_seed(seed))


def given(known: list[int], seed: int = 3, frames: int = T) -> Hint:
    """The clean latents of the ``known`` frames and the mask that says so."""
    mask = torch.zeros(2, 1, frames, 8, 8)
    mask[:, :, known] = 1
    return Hint(channels=torch.cat([clip(frames, seed) * mask, mask], dim=1))


def text(seed: int = 0) -> Text:
    rng = torch.Generator().manual_seed(seed)
    tokens, mask = torch.randn(2, 3, 12, generator=rng), torch.ones(2, 3, dtype=torch.bool)
    return Text(tokens=tokens, mask=mask, pooled=torch.zeros(2, 1))


TIME = torch.tensor([0.3, 0.8])
COND = Cond(text=text())


@torch.no_grad()
def test_alpha_one_is_the_image_network_of_every_frame() -> None:
    still = network()
    moving = blend(video(still), 200.0)
    hinted = replace(COND, hint=given([0, 2]))
    assert torch.equal(moving(clip(), TIME, hinted), still(clip(), TIME, COND))
    frame = still(clip()[:, :, 2:3], TIME, COND)
    torch.testing.assert_close(moving(clip(), TIME, COND)[:, :, 2:3], frame, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(blend(moving, 0.0)(clip(), TIME, COND), still(clip(), TIME, COND), atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("mix", [-3.0, 0.0, 2.0])
def test_temporal_layers_are_born_silent_at_any_alpha(mix: float) -> None:
    still = network()
    moving = blend(video(still, trained=False), mix)
    assert torch.equal(moving(clip(), TIME, replace(COND, hint=given([1]))), still(clip(), TIME, COND))


@torch.no_grad()
def test_an_image_is_the_image_network_s() -> None:
    still = network()
    one = clip(1)
    assert torch.equal(video(still)(one, TIME, replace(COND, hint=given([0], frames=1))), still(one, TIME, COND))


def test_training_leaves_the_image_network_bit_identical() -> None:
    still = network()
    net = video(still)
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    temporal = {id(parameter) for parameter in net.temporal_parameters()}
    optimiser = torch.optim.AdamW(net.temporal_parameters(), lr=1e-2, weight_decay=0.1)
    assert {id(p) for group in optimiser.param_groups for p in group["params"]} == temporal
    for step in range(3):
        optimiser.zero_grad()
        out = net(clip(seed=step), TIME, replace(COND, hint=given([0])))
        (out - clip(seed=step + 10)).square().mean().backward()
        optimiser.step()
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name]) != (id(parameter) in temporal), name
    assert all(torch.equal(net.state_dict()[name], weight) for name, weight in still.state_dict().items())


@torch.no_grad()
def test_frames_that_are_not_given_are_not_seen() -> None:
    net = video(network())

    def out(hint: Hint | None) -> torch.Tensor:
        return net(clip(), TIME, replace(COND, hint=hint))

    nothing = out(given([]))
    assert torch.equal(nothing, out(given([], seed=4)))
    assert torch.equal(nothing, out(None))
    some = out(given([0, 3]))
    assert (some - nothing).abs().amax((0, 1, 3, 4)).min() > 1e-4  # every frame hears of them
    other = clip(seed=3)
    other[:, :, [1, 2, 4]] += 5
    hint = given([0, 3])
    mask = hint.channels[:, 4:]
    assert torch.equal(some, out(Hint(channels=torch.cat([other * mask, mask], dim=1))))
    assert (some - out(given([0, 3], seed=5))).abs().max() > 1e-3


@torch.no_grad()
def test_the_temporal_layers_read_the_text_too() -> None:
    net = video(network())
    for module in net.modules():  # silence the spatial layers' ears
        if hasattr(module, "text_attention") and hasattr(module, "norm3"):
            torch.nn.init.zeros_(module.text_attention.to_out.weight)
    assert (net(clip(), TIME, COND) - net(clip(), TIME, Cond(text=text(1)))).abs().max() > 1e-4


@torch.no_grad()
def test_another_image_checkpoint_keeps_the_temporal_layers() -> None:
    first, second = network(0), network(1)
    net = video(first)
    before = [parameter.clone() for parameter in net.temporal_parameters()]
    net.load_image(second.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(before, net.temporal_parameters(), strict=True))
    assert torch.equal(blend(net, 200.0)(clip(), TIME, COND), second(clip(), TIME, COND))
    with pytest.raises(ValueError, match=r"see blocks\.0\.temporal"):
        net.load_image(net.state_dict())
    with pytest.raises(ValueError, match=r"see conv_in\.weight"):
        net.load_image(UNet(**(IMAGE | dict(channels=3))).state_dict())


@torch.no_grad()
@pytest.mark.parametrize("positions", ["relative", "sinusoidal", "rotary", "unordered"])
@pytest.mark.parametrize("groups", [None, [[0] * 12 + [1, 2]], [[0, 1] * 7]])
def test_attention_reaches_so_far(positions: str, groups: list[list[int]] | None) -> None:
    torch.manual_seed(0)
    layer = TemporalAttention(16, 2, positions)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    numbers = None if groups is None else torch.tensor(groups)
    x = torch.randn(14, 16, 2, 2).contiguous(memory_format=torch.channels_last)
    louder = x.clone()
    louder[0] += 3

    def out(maps: torch.Tensor, reach: int) -> torch.Tensor:
        return layer(maps, Context(frames=Frames.of(1, 14, numbers, reach), embedding=torch.zeros(14, 8)))

    heard = (out(louder, 4) - out(x, 4)).abs().amax((1, 2, 3)) > 0
    inside = torch.arange(14) <= 4 if groups is None or 1 not in groups[0][:2] else torch.arange(14) <= 8
    same = torch.ones(14, dtype=torch.bool) if numbers is None else numbers[0] == 0
    assert torch.equal(heard, inside & same)
    torch.testing.assert_close(out(x, 13), out(x, 0), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_reach_is_a_choice_of_the_network() -> None:
    far, near = network(temporal_attention="rotary"), network(temporal_attention="rotary", reach=2)
    torch.testing.assert_close(far(clip(3), TIME, COND), near(clip(3), TIME, COND), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(far(clip(7), TIME, COND), near(clip(7), TIME, COND), atol=1e-3)


@torch.no_grad()
def test_times_of_single_frames() -> None:
    still = network()
    moving = video(still)
    each = TIME[:, None].expand(2, T)
    torch.testing.assert_close(moving(clip(), each, COND), moving(clip(), TIME, COND), rtol=1e-5, atol=1e-5)
    mixed = each.clone()
    mixed[:, 1] = 0
    expected = still(clip(), TIME, COND)
    expected[:, :, 1] = still(clip(), torch.zeros(2), COND)[:, :, 1]
    torch.testing.assert_close(still(clip(), mixed, COND), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(text_dim=0), "temporal transformer that attends to text needs text_dim"),
        (dict(temporal_conv="deep"), "hint_path='temporal' needs temporal_conv='residual' and hint_channels, not 'deep' and 5"),
        (dict(hint_channels=0), "not 'residual' and 0"),
        (dict(temporal_transformer="thrice"), "temporal_transformer is 'thrice'; choose one of none, text, twice"),
        (dict(hint_path="side"), "hint_path is 'side'; choose one of input, temporal"),
    ],
)
def test_a_bad_option_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**(IMAGE | TEMPORAL | config))
