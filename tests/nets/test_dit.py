"""The checks of the transformers that need no peer: identity at birth, frame groups, packing, times, positions, text."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from noisereel.nets import fused
from noisereel.nets.dit import DiT
from noisereel.nets.packing import packed_weights
from noisereel.nets.transformer import Block, Context, Segment
from noisereel.types import Cond, Hint, Text

SMALL: dict[str, Any] = dict(channels=3, width=48, depth=2, heads=2, text_dim=12, pooled_dim=10, scalars=("fps",))
KINDS: dict[str, dict[str, Any]] = {
    "ours": dict(),
    "CogVideoX": dict(norm_affine=True, embed_width=20, positions="sincos", gelu="tanh"),
    "Wan": dict(text="cross", modulation="shared", qk_norm="rms"),
    "mixed": dict(text="cross", qk_norm="none", fitted=(4, 4)),
    "shared": dict(modulation="shared", positions="sincos"),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def net(loud: bool = True, **config: Any) -> DiT:
    """A small network; ``loud`` fills the weights that are born zero, except the columns of a hint."""
    torch.manual_seed(0)
    made = DiT(**(SMALL | config))
    if loud:
        for parameter in made.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    return made


def text(clips: int, length: int = 5, seed: int = 0) -> Text:
    """The first row holds no text at all, the second is full."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([0, length, 3, 1, 2, 4])[:clips, None]
    tokens, pooled = torch.randn(clips, length, 12, generator=rng), torch.randn(clips, 10, generator=rng)
    return Text(tokens=tokens, mask=torch.arange(length) < lengths, pooled=pooled)


def conditions(clips: int, **others: Any) -> Cond:
    return Cond(text=text(clips), fps=torch.arange(clips) + 6.0, **others)


def video(samples: int = 2, frames: int = 3, height: int = 4, width: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.randn(samples, 3, frames, height, width, generator=torch.Generator().manual_seed(seed))


def alone(cond: Cond, row: int) -> Cond:
    """The conditions of one clip."""
    assert cond.text is not None
    assert cond.fps is not None
    rows = slice(row, row + 1)
    one = Text(tokens=cond.text.tokens[rows], mask=cond.text.mask[rows], pooled=cond.text.pooled[rows])
    return Cond(text=one, fps=cond.fps[rows])


def assert_close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def assert_same_gradients(made: DiT, one: torch.Tensor, other: torch.Tensor) -> None:
    """That two sums depend on the parameters alike."""
    grads = [torch.autograd.grad(loss, list(made.parameters()), allow_unused=True) for loss in (one, other)]
    largest = max(float(b.norm()) for b in grads[1] if b is not None)
    for name, a, b in zip(dict(made.named_parameters()), *grads, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            assert float((a - b).norm()) <= 1e-5 * float(b.norm()) + 1e-7 * largest, name


@every_kind
def test_at_birth_the_output_is_zero_and_every_block_the_identity(kind: str) -> None:
    made, seen = net(loud=False, **KINDS[kind]), []
    for block in made.blocks:
        block.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    assert not made(video(), torch.tensor([0.3, 0.8]), conditions(2)).any()
    assert len(seen) == 2
    for before, after in seen:
        assert torch.equal(before, after)


@every_kind
def test_everything_learns_but_what_a_zero_stands_behind(kind: str) -> None:
    made = net(**KINDS[kind])
    made(video(), torch.tensor([0.3, 0.8]), conditions(2)).square().sum().backward()
    silent = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@every_kind
def test_a_network_is_rebuilt_from_its_config(kind: str) -> None:
    made = net(**KINDS[kind])
    again = DiT(**made.config)
    again.load_state_dict(made.state_dict())
    args = video(), torch.tensor([0.3, 0.8]), conditions(2)
    assert torch.equal(made(*args), again(*args))


def test_a_hint_is_ignored_at_birth_and_must_have_its_channels() -> None:
    bare, hinted = net(), net(hint_channels=2)
    state = bare.state_dict()
    wide = hinted.state_dict()["patches.weight"].clone()
    assert not wide[:, 3 * 4 :].any()
    wide[:, : 3 * 4] = state["patches.weight"]
    hinted.load_state_dict(state | {"patches.weight": wide})
    t, hint = torch.tensor([0.3, 0.8]), Hint(channels=torch.randn(2, 2, 3, 4, 6))
    assert_close(hinted(video(), t, conditions(2, hint=hint)), bare(video(), t, conditions(2)), 1e-6)
    with pytest.raises(ValueError, match="takes 2 hint channels and was given 0"):
        hinted(video(), t, conditions(2))


@every_kind
@pytest.mark.parametrize("groups", [[[0, 0, 1], [3, 3, 2]], [[0, 1, 0], [2, 2, 3]], [[0, 0, 0], [1, 2, 3]]])
def test_clips_of_a_sample_are_as_if_apart(kind: str, groups: list[list[int]]) -> None:
    made, t, x = net(**KINDS[kind]), torch.tensor([0.3, 0.8]), video()
    cond = conditions(4, groups=torch.tensor(groups))
    together, apart = made(x, t, cond), torch.empty_like(x)
    for sample, row in enumerate(groups):
        for clip in set(row):
            frames = [frame for frame, other in enumerate(row) if other == clip]
            one = made(x[sample : sample + 1, :, frames], t[sample : sample + 1], alone(cond, clip))
            apart[sample, :, frames] = one[0]
    assert_close(together, apart)
    assert_same_gradients(made, together.square().sum(), apart.square().sum())


@every_kind
def test_packed_clips_of_other_sizes_and_lengths_are_as_if_apart(kind: str) -> None:
    made = net(**KINDS[kind])
    videos = [video(), video(frames=1, height=8, width=4), video(frames=5, height=2, width=2)]
    times = [torch.tensor([0.3, 0.8]), torch.tensor([0.5, 0.1]), torch.rand(2, 5)]
    conds = [replace(conditions(2), text=text(2, length, seed=length)) for length in (5, 3, 7)]
    together = made.packed(videos, times, conds)
    apart = [made(*args) for args in zip(videos, times, conds, strict=True)]
    for one, other in zip(together, apart, strict=True):
        assert one.shape == other.shape
        assert_close(one, other)
    sums = [sum(out.square().sum() for out in outs) for outs in (together, apart)]
    assert_same_gradients(made, *sums)  # type: ignore[arg-type]


def test_clips_of_a_pack_do_not_see_each_other() -> None:
    made, t = net(), torch.tensor([0.3, 0.8])
    first, second = video(), video(frames=2, seed=2)
    before = made.packed([first, second], [t, t], [conditions(2)] * 2)
    after = made.packed([first, second + 1], [t, t], [conditions(2)] * 2)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


@every_kind
def test_the_same_time_for_every_frame_is_one_time(kind: str) -> None:
    made, t = net(**KINDS[kind]), torch.tensor([0.3, 0.8])
    assert_close(made(video(), t[:, None].expand(2, 3), conditions(2)), made(video(), t, conditions(2)), 1e-6)


def test_patches_of_several_frames_take_the_time_of_the_noisiest() -> None:
    made, x = net(patch=(2, 2, 2)), video(frames=4)
    times = torch.tensor([[0.0, 0.5, 0.9, 0.2], [0.1, 0.1, 0.0, 0.7]])
    of_patches = torch.tensor([[0.5, 0.5, 0.9, 0.9], [0.1, 0.1, 0.7, 0.7]])
    assert torch.equal(made(x, times, conditions(2)), made(x, of_patches, conditions(2)))
    other = made(x, of_patches.flip(1), conditions(2))
    assert not torch.allclose(made(x, times, conditions(2)), other)


@pytest.mark.parametrize("kind", ["ours", "Wan"])
def test_padding_of_the_text_is_not_looked_at(kind: str) -> None:
    made, t, cond = net(**KINDS[kind]), torch.tensor([0.3, 0.8, 0.5]), conditions(3)
    assert cond.text is not None
    out = made(video(3), t, cond)
    assert bool(out.isfinite().all())  # also of the first, which has no text
    noise = torch.where(cond.text.mask[..., None], cond.text.tokens, 100.0)
    assert torch.equal(made(video(3), t, replace(cond, text=replace(cond.text, tokens=noise))), out)
    fresh = replace(cond, text=replace(cond.text, mask=torch.ones_like(cond.text.mask)))
    looking = net(**KINDS[kind], text_mask=False)
    assert_close(looking(video(3), t, cond), made(video(3), t, fresh))


def test_without_text_the_joint_sequence_is_the_video_alone() -> None:
    made, t, cond = net(pooled_dim=0), torch.tensor([0.3, 0.8]), conditions(2)
    assert_close(made(video(), t, cond)[0], made(video(), t, replace(cond, text=None))[0])


def test_text_tokens_of_a_joint_sequence_have_no_order() -> None:
    made, t, cond = net(text_mask=False), torch.tensor([0.3, 0.8]), conditions(2)
    assert cond.text is not None
    shuffled = replace(cond.text, tokens=cond.text.tokens[:, [3, 1, 4, 0, 2]])
    assert_close(made(video(), t, replace(cond, text=shuffled)), made(video(), t, cond))


def test_expert_modulation_with_equal_halves_is_ordinary_modulation() -> None:
    options: dict[str, Any] = dict(inner=40, embed_width=24, shared=False, qk_norm="layer", gelu="none", affine=True, eps=1e-5)
    torch.manual_seed(0)
    expert, plain = (Block(24, 2, text=kind, image=False, **options) for kind in ("joint", "none"))
    ordinary = torch.randn(2, 1, 3 * 24, 24)  # branch, stream, kind and width; embedding
    biases = torch.randn(2, 1, 3 * 24)
    shared = {name: value for name, value in expert.state_dict().items() if not name.startswith("modulation")}
    for block in (expert, plain):
        halves = (2, block.streams, 3 * 24)
        moves = {"weight": ordinary.expand(*halves, 24).flatten(0, 2), "bias": biases.expand(halves).flatten()}
        block.load_state_dict(shared | {f"modulation.linear.{name}": value for name, value in moves.items()})
    x, embedding = torch.randn(2, 9, 24), torch.randn(2, 1, 24)
    common: dict[str, Any] = dict(embedding=embedding, common=None, segments=(Segment(length=9),))
    out = plain(x, Context(spans=((9, range(1)),), **common))
    assert_close(expert(x, Context(spans=((4, range(1, 2)), (5, range(1))), **common)), out)


@every_kind
def test_any_length_size_and_aspect(kind: str) -> None:
    made = net(**KINDS[kind])
    for shape in ((1, 2, 2), (2, 8, 4), (7, 4, 10)):
        x = video(2, *shape)
        out = made(x, torch.tensor([0.3, 0.8]), conditions(2))
        assert out.shape == x.shape
        assert bool(out.isfinite().all())
        assert out.std() > 0.1


def test_a_size_that_patches_do_not_fill_is_refused() -> None:
    made = net(patch=(2, 2, 4))
    assert (made.multiple_frames, made.multiple) == (2, 4)
    with pytest.raises(ValueError, match=r"the video is 3 x 4 x 6; its sizes must be multiples of the patch \(2, 2, 4\)"):
        made(video(), torch.tensor([0.3, 0.8]), conditions(2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(text="both"), "text is 'both'; choose one of joint, cross"),
        (dict(heads=5), "width=48 does not split into 5 heads"),
        (dict(axes=(8, 8, 6)), r"axes is \(8, 8, 6\); it needs three even widths that make 24"),
        (dict(modulation="shared", embed_width=20), "needs an embed_width of 48, not 20"),
        (dict(scalars=("speed",)), "scalars has speed; known are fps, hint_noise, ofs"),
        (dict(positions="learned"), "needs a table of four sizes"),
        (dict(image_dim=8), "image_dim is for text='cross'"),
        (dict(patch=(2, 2)), "it needs three sizes"),
        (dict(positions="sincos", width=40), "needs a width that 16 divides, not 40"),
    ],
)
def test_options_that_make_no_network_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(**wrong)


def test_learned_positions_are_of_one_size() -> None:
    made, t = net(positions="learned", table=(5, 3, 2, 3)), torch.tensor([0.3, 0.8])
    assert made.positions.table.shape == (1, 5 + 18, 48)
    made(video(), t, conditions(2))
    with pytest.raises(ValueError, match=r"learned positions for 3 x 2 x 3 patches .* was given 2 x 2 x 3 and 5"):
        made(video(frames=2), t, conditions(2))


@every_kind
def test_the_folded_operations_compute_what_the_plain_ones_do(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, t, cond = net(**KINDS[kind]), torch.rand(2, 3), conditions(4, groups=torch.tensor([[0, 0, 1], [3, 3, 2]]))
    out = made(video(), t, cond)
    monkeypatch.setattr(fused, "folds", lambda x: False)
    plain = made(video(), t, cond)
    assert_close(out, plain)
    assert_same_gradients(made, out.square().sum(), plain.square().sum())


@every_kind
def test_half_precision_by_autocast_or_by_weights(kind: str) -> None:
    made, args = net(**KINDS[kind]), (video(), torch.tensor([0.3, 0.8]), conditions(2))
    out = made(*args).detach()
    with torch.autocast("cpu", torch.bfloat16):
        low = made(*args)
    assert low.dtype == torch.float32
    low.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in made.parameters() if p.grad is not None)
    with torch.inference_mode():
        lowest = made.bfloat16()(*args)
    for other in (low, lowest):
        assert float((other.detach() - out).norm() / out.norm()) < 0.03


def test_packed_weights_compute_the_same_and_leave_no_trace() -> None:
    made, args = net(gelu="tanh"), (video(), torch.tensor([0.3, 0.8]), conditions(2))
    state = made.state_dict()
    with torch.inference_mode():
        out = made(*args)
        with packed_weights(made):
            packed = made(*args)
            assert list(made.state_dict()) == list(state)
            with torch.no_grad():
                made.blocks[0].feed_forward.up.weight.add_(1)  # not seen: the copy is
            assert torch.equal(made(*args), packed)
        assert not torch.equal(made(*args), out)
    assert_close(packed, out)


def test_the_parameters_that_mix_frames_are_those_of_attention() -> None:
    made = net(text="cross")
    mixing = {id(p) for p in made.temporal_parameters()}
    names = [name for name, p in made.named_parameters() if id(p) in mixing]
    assert names
    assert all(".attention." in name for name in names)
    assert sum(name.endswith("qkv.weight") for name in names) == 2
