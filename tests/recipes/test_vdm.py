"""VDM: the published size, joint training, learning, resuming, and the seeded losses that a refactor must not move."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from noisereel.data.mix import Mix, limited
from noisereel.recipes.plan import rebuild
from noisereel.recipes.vdm import SIZES, vdm
from noisereel.trainer import Trainer
from noisereel.types import Cond, Text, generators
from noisereel.worlds.pools import Pools

GOLDEN = Path(__file__).parent / "vdm_tiny_losses.json"


def tiny_phase(**arguments):
    return vdm(size="tiny", **arguments).phases()[-1]


def test_paper_size_is_the_published_network():
    with torch.device("meta"):
        net = vdm(size="paper").system.first.net
    config = net.config
    # Table 5 of the paper, text to video, large: 256 channels, multipliers 1, 2, 4, 8, two blocks, attention at 8, 16 and 32.
    assert (config["width"], tuple(config["multipliers"]), config["depth"]) == (256, (1, 2, 4, 8), 2)
    assert [64 // 2**level for level, here in enumerate(config["attention"]) if here] == [32, 16, 8]
    assert sum(p.numel() for p in net.parameters()) == unet_parameters(256, (1, 2, 4, 8), 2, (False, True, True, True), 1024)


def unet_parameters(width, multipliers, depth, attention, pooled, channels=3, head=64, reach=32):
    """The number of parameters, counted on paper."""
    embed = 4 * width

    def norm(c):
        return 2 * c

    def conv(c, d, k=3):
        return k * k * c * d + d

    def linear(c, d):
        return c * d + d

    def res(c, d):
        return norm(c) + conv(c, d) + linear(embed, 2 * d) + norm(d) + conv(d, d) + (conv(c, d, 1) if c != d else 0)

    def attend(c):
        space = norm(c) + 3 * c * c + linear(c, c)
        return space + space + 2 * (2 * reach + 1) * head  # and time, which also has relative positions

    widths = [width * m for m in multipliers]
    total = linear(width, embed) + linear(embed, embed)  # time
    total += linear(pooled, embed) + linear(embed, embed)  # text
    total += conv(channels, width) + norm(width) + conv(width, channels)
    skips, current = [width], width
    for level, (out, here) in enumerate(zip(widths, attention, strict=True)):
        for _ in range(depth):
            total += res(current, out) + here * attend(out)
            current = out
            skips.append(current)
        if level < len(widths) - 1:
            total += conv(current, current)
            skips.append(current)
    total += 2 * res(current, current) + attend(current)
    for level, (out, here) in reversed(list(enumerate(zip(widths, attention, strict=True)))):
        for _ in range(depth + 1):
            total += res(current + skips.pop(), out) + here * attend(out)
            current = out
        if level:
            total += conv(current, current)
    return total


def test_appended_images_train_on_their_own_captions():
    batch = tiny_phase(images=2).data(0)
    frames = SIZES["tiny"]["shape"][0]
    assert batch.video.shape[2] == frames + 2
    assert len(batch.captions) == 3 * len(batch.video)
    assert torch.equal(batch.groups[1], torch.tensor([3] * frames + [4, 5]))
    # A joint batch denoises its videos exactly as they would be denoised alone.
    stage = vdm(size="tiny").system.first
    for parameter in stage.net.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 12, frames + 2, 8, 8, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.3, 0.8])
    text = stage.text(["a red circle", "a blue square", None, "a green ring", "x", "y"])
    groups = torch.tensor([[0] * frames + [1, 2], [3] * frames + [4, 5]])
    joint = stage.net(x, t, Cond(text=text, groups=groups))
    videos = Text(tokens=text.tokens[::3], mask=text.mask[::3], pooled=text.pooled[::3])
    alone = stage.net(x[:, :, :frames], t, Cond(text=videos))
    torch.testing.assert_close(joint[:, :, :frames], alone, rtol=1e-5, atol=1e-5)


def test_images_come_first_where_there_are_images():
    assert [phase.name for phase in vdm(size="tiny").phases()] == ["images", "joint"]
    assert [phase.name for phase in vdm(size="tiny", images=0).phases()] == ["joint"]
    assert vdm(size="tiny").phases()[0].data(0).video.shape == (32, 3, 1, 16, 16)


def test_small_learns_what_words_of_motion_mean_from_first_frames_that_are_given():
    images, animated, joint = vdm(size="small").phases()
    assert (images.name, animated.name, joint.name) == ("images", "animated", "joint")
    assert animated.target.net is joint.target.net
    assert (animated.target.prefixes, animated.target.longest_prefix) == (1.0, 1)  # always the first frame, and no other
    assert animated.target.diffusion.draw(generators(0, range(100))).min() > 0.999  # of which nothing is to be seen
    assert 0 < joint.target.prefixes < 1
    assert joint.target.diffusion.draw(generators(0, range(1000))).median() < 0.95


def test_tiny_learns_four_clips(tmp_path):
    plan = vdm(size="tiny", images=0, clips=960)
    (phase,) = plan.phases()
    pools = Pools.open("shapes-small", shape=SIZES["tiny"]["shape"], fps=4.0)
    phase = replace(
        phase, data=Mix(video=limited(pools.video, 4), batch=8), validate_every=10**6, preview_every=10**6, held_out=None
    )
    history = [progress.loss for progress in Trainer(phase, tmp_path).run()]
    assert sum(history[-10:]) < 0.35 * sum(history[:3]) / 3 * 10


def test_seeded_losses_have_not_moved(tmp_path):
    """Rewrite the file with ``python tests/recipes/test_vdm.py`` and say in the commit why they moved."""
    stored = json.loads(GOLDEN.read_text())
    found = seeded_losses(tmp_path)
    assert found == pytest.approx(stored, rel=1e-3)  # other processors round otherwise


def test_a_stored_call_rebuilds_the_same_system():
    call = {"recipe": "vdm", "arguments": {"size": "tiny", "guidance": 3.0, "steps": 7, "seed": 5}}
    one, two = rebuild(call).system, rebuild(call).system
    assert one.first.steps == 7
    for a, b in zip(one.first.net.parameters(), two.first.net.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="takes no depth"):
        rebuild({"recipe": "vdm", "arguments": {"depth": 3}})


def test_a_stored_call_with_an_argument_of_the_wrong_kind_is_a_user_mistake(monkeypatch):
    def fussy(width: int = 0):
        return width + 1

    monkeypatch.setattr("noisereel.recipes.plan.recipe", lambda name: fussy)
    with pytest.raises(ValueError, match="cannot be called with"):
        rebuild({"recipe": "vdm", "arguments": {"width": "x"}})


def test_unknown_data_is_named():
    with pytest.raises(ValueError, match="shapes-small"):
        vdm(size="tiny", data="imagenet").phases()


def seeded_losses(folder: Path) -> list[float]:
    phase = replace(tiny_phase(images=4, clips=160), validate_every=10**6, preview_every=10**6, held_out=None)
    return [progress.loss for progress in Trainer(phase, folder).run()]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        GOLDEN.write_text(json.dumps(seeded_losses(Path(temporary))) + "\n")
