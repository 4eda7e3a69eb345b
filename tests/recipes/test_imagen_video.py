"""Imagen Video: the paper's cascade, what each stage is given, text in every stage, images, crops; and the seeded losses."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from noisereel.cli.app import main
from noisereel.conditioning import resize
from noisereel.nets.attention import Attention, SpatialAttention
from noisereel.nets.temporal import TemporalAttention, TemporalBranch
from noisereel.pipeline import TextToVideo
from noisereel.recipes.imagen_video import imagen_video
from noisereel.recipes.imagen_video_sizes import CASCADES, cascade
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.trainer import Trainer
from noisereel.types import Cond, Hint, generators

GOLDEN = Path(__file__).parent / "imagen_video_tiny_losses.json"
NAMES = ["base", "tsr1", "ssr1", "ssr2", "tsr2", "tsr3", "ssr3"]

pytestmark = pytest.mark.usefixtures("few_words")


def tiny(**arguments) -> System:
    return loud(imagen_video(**(dict(size="tiny", steps=2) | arguments)).system)


def loud(system: System) -> System:
    """The same as if something had been learned: what is silent at birth would hide every difference."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for stage in system.stages.values():
            for parameter in stage.net.parameters():
                parameter += torch.where(parameter == 0, 0.05 * torch.randn(parameter.shape, generator=generator), 0)
    return system


def asked(stage: Stage, shape: tuple[int, int, int] | None = None, seed: int = 1) -> tuple:
    """A noisy clip in latents, its time, and everything that can be told of it."""
    channels, *sizes = stage.latent_shape(shape or stage.shape)
    x, given = torch.randn(2, 2, channels, *sizes, generator=torch.Generator().manual_seed(seed))
    hint = Hint(channels=given, noise=torch.tensor([0.2, 0.4])) if stage.given else None
    return x, torch.tensor([0.3, 0.8]), Cond(text=stage.text(["a red circle", "a blue square"]), hint=hint)


# The table


def test_the_paper_s_cascade():
    with torch.device("meta"):
        system = imagen_video(size="paper").system
    stages = system.stages
    assert_mixes_as_published(system)
    assert [stages[name].shape for name in NAMES] == [
        (16, 24, 40),
        (32, 24, 40),
        (32, 48, 80),
        (32, 192, 320),
        (64, 192, 320),
        (128, 192, 320),
        (128, 768, 1280),
    ]
    assert [stages[name].fps for name in NAMES] == [3, 6, 6, 6, 12, 24, 24]
    millions = [round(sum(p.numel() for p in stages[name].net.parameters()) / 1e6) for name in NAMES]
    published = [5600, 1700, 1400, 1200, 780, 630, 340]
    assert millions == [5639, 1630, 1377, 1156, 687, 577, 337]
    assert all(abs(ours - theirs) < 0.13 * theirs for ours, theirs in zip(millions, published, strict=True))


@pytest.mark.parametrize("size", CASCADES)
def test_every_stage_is_its_factors_times_the_one_before(size):
    rows = cascade(size)
    assert list(rows) == NAMES
    for before, row in pairwise(rows.values()):
        assert row["frames"] == row["time"] * before["frames"]
        assert row["fps"] == row["time"] * before["fps"]
        assert (row["height"], row["width"]) == (row["space"] * before["height"], row["space"] * before["width"])
    # In the paper's order: time, space, space, time, time, space.
    assert [row["time"] > 1 for row in rows.values()] == [False, True, False, False, True, True, False]
    assert [row["space"] > 1 for row in rows.values()] == [False, False, True, True, False, False, True]
    assert all(row["time"] in (1, 2) and row["space"] in (1, 2, 4) for row in rows.values())


def test_which_networks_attend_and_how_frames_mix():
    assert_mixes_as_published(tiny())


def assert_mixes_as_published(system: System) -> None:
    """Attention over time in the base, convolutions above; among pixels up to the second network that enlarges."""
    found = {name: {type(module) for module in stage.net.modules()} for name, stage in system.stages.items()}
    assert [TemporalAttention in found[name] for name in NAMES] == [True] + 6 * [False]
    assert [TemporalBranch in found[name] for name in NAMES] == [False] + 6 * [True]
    assert [SpatialAttention in found[name] for name in NAMES] == 4 * [True] + 3 * [False]
    assert not any(Attention in found[name] for name in NAMES[4:])
    assert all(stage.diffusion.predicts == "v" for stage in system.stages.values())


# What the stages are given


def clip(stage: Stage) -> torch.Tensor:
    return torch.rand(1, 3, *stage.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("blank", [False, True])
def test_longer_stages_are_given_every_other_frame(blank):
    for name in ("tsr1", "tsr2", "tsr3"):
        stage = tiny(blank=blank).stages[name]
        video = clip(stage)
        given = replace(stage.given, noise=0.0).from_clip(video, generators(0, [0])).channels
        seen = stage.codec.decode(given)
        assert torch.equal(seen[:, :, ::2], video[:, :, ::2])
        assert torch.equal(seen[:, :, 1::2], torch.zeros_like(video[:, :, 1::2]) if blank else video[:, :, ::2])


def test_larger_stages_are_given_the_smaller_video_enlarged():
    for name in ("ssr1", "ssr2", "ssr3"):
        stage = tiny().stages[name]
        _, height, width = stage.shape
        small = resize(clip(stage), height // 2, width // 2)
        given = replace(stage.given, sample_noise=0.0).from_previous(small, generators(0, [0])).channels
        frame = torch.nn.functional.interpolate(small[:, :, 1], scale_factor=2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(stage.codec.decode(given)[:, :, 1], frame)


def test_what_is_given_is_noised_and_the_network_is_told_how_much():
    fixed, clean = tiny(snr=3.0).stages["ssr1"], tiny(snr=math.exp(20)).stages["ssr1"]
    small = torch.zeros(1, 3, 4, 8, 8)
    hint = fixed.given.from_previous(small, generators(0, [0]))
    assert hint.noise.item() == pytest.approx((20 - math.log(3)) / 40, abs=1e-4)  # the log-SNR from 20 to -20 as 0 to 1
    assert hint.channels.std().item() == pytest.approx(0.5, abs=0.01)  # sigma^2 = 1 / (1 + SNR)
    assert clean.given.from_previous(small, generators(0, [0])).channels.abs().max() < 1e-3
    # In training the level is drawn, up to an SNR of 1, beyond those of sampling.
    told = torch.stack([fixed.given.from_clip(torch.zeros(1, 3, 4, 16, 16), generators(0, [i])).noise for i in range(200)])
    assert told.min() < 0.35
    assert told.max() > hint.noise
    assert told.max() <= 0.5 + 1e-6
    # And what is told is heard.
    x, t, cond = asked(fixed)
    quieter = replace(cond, hint=replace(cond.hint, noise=cond.hint.noise / 2))
    assert not torch.allclose(fixed.net(x, t, cond), fixed.net(x, t, quieter), atol=1e-3)


@torch.no_grad()
def test_text_and_what_is_given_reach_every_stage():
    for name, stage in tiny().stages.items():
        x, t, cond = asked(stage)
        out = stage.net(x, t, cond)
        assert not torch.allclose(out, stage.net(x, t, replace(cond, text=None)), atol=1e-3), name
        if stage.given:
            other = replace(cond, hint=replace(cond.hint, channels=torch.zeros_like(x)))
            assert not torch.allclose(out, stage.net(x, t, other), atol=1e-3), name


# Guidance


def guided_scales(stage: Stage) -> list[float]:
    """The guidance scale of each step of sampling, read from what guidance makes of 0.001 and 0."""
    denoiser = stage.guide(lambda x, t: torch.full_like(x, 1e-3), lambda x, t: torch.zeros_like(x))
    times = stage.rungs(stage.diffusion.schedule, stage.steps).t[:-1].float()
    return [round(1e3 * denoiser(torch.zeros(1, 3, 1, 2, 2), t[None]).mean().item(), 3) for t in times]


def test_guidance_oscillates_up_to_80x48_and_not_above():
    stages = imagen_video(size="tiny", steps=8, guidance=15.0).system.stages
    scales = {name: guided_scales(stage) for name, stage in stages.items()}
    for name in NAMES[:3]:
        assert scales[name] == [15, 15, 15, 1, 15, 1, 15, 1]
    for name in NAMES[3:]:
        assert scales[name] == [1] * 8
    pipe = TextToVideo(system=tiny(), call={"recipe": "imagen_video", "arguments": {"size": "tiny"}})
    tuned = pipe.tuned(steps=4, guidance=6.0)
    assert guided_scales(tuned.stages["base"]) == [6, 6, 1, 6]
    assert guided_scales(tuned.stages["ssr3"]) == [1, 1, 1, 1]
    assert tuned.stages["ssr1"].net is pipe.system.stages["ssr1"].net


def test_what_guidance_makes_is_thresholded():
    for stage in tiny(guidance=15.0).stages.values():
        denoiser = stage.guide(lambda x, t: torch.full_like(x, 0.9), lambda x, t: torch.full_like(x, -0.9))
        assert denoiser(torch.zeros(1, 3, 1, 2, 2), torch.ones(1)).abs().max() <= 1


# Networks


@torch.no_grad()
def test_images_are_apart_from_the_video_and_each_other():
    for name, stage in tiny().stages.items():
        frames = stage.shape[0]
        long = (frames + 2, 16, 16)
        x, t, cond = asked(stage, long)
        text = stage.text(["a", "red", "circle", "on", "white", "ground"])
        groups = torch.tensor([[0] * frames + [1, 2], [3] * frames + [4, 5]])
        cond = replace(cond, text=text, groups=groups)
        out = stage.net(x, t, cond)
        changed = x.clone()
        changed[:, :, -1] += 1
        moved = (stage.net(changed, t, cond) - out).abs().amax(dim=(0, 1, 3, 4))
        assert moved[-1] > 1e-3, name
        assert moved[:-1].max() == 0, name
        # An image's own convolutions over time add exactly nothing.
        for module in stage.net.modules():
            if isinstance(module, TemporalBranch):
                torch.nn.init.zeros_(module.conv2.conv.weight)
                torch.nn.init.zeros_(module.conv2.conv.bias)
        if stage.given:
            torch.testing.assert_close(stage.net(x, t, cond)[:, :, -2:], out[:, :, -2:])


@torch.no_grad()
def test_the_last_stage_runs_at_any_size_and_moves_with_its_input():
    stage = tiny().stages["ssr3"]
    stage.net.double()
    ground = torch.zeros(1, 12, 1, 88, 88, dtype=torch.double)
    patch = torch.randn(1, 12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    cond = Cond(text=stage.text(["a red circle"]), hint=Hint(channels=ground, noise=torch.tensor([0.3])))

    def at(row: int, column: int) -> torch.Tensor:
        x = ground.clone()
        x[..., row : row + 8, column : column + 8] = patch
        return stage.net(x, torch.tensor([0.5]), cond)

    step = stage.net.multiple
    one, other = at(40, 40), at(40 + step, 40 - step)
    # Borders reach about 30 pixels far, from where the patch is not seen: they are the same, and so is what norms measure.
    torch.testing.assert_close(
        one[..., 32:56, 32:56], other[..., 32 + step : 56 + step, 32 - step : 56 - step], rtol=0, atol=1e-5
    )
    assert (one - other).abs().max() > 0.01


# Training


def test_the_last_stages_learn_from_parts_and_run_on_wholes():
    phases = {phase.name: phase for phase in imagen_video(size="tiny").phases()}
    assert list(phases) == ["base_images", *NAMES]
    assert phases["ssr3"].data(0).video.shape == (8, 3, 4 + 1, 16, 16)
    assert phases["tsr2"].held_out().video.shape[2:] == (4, 16, 16)
    assert phases["ssr3"].target.shape == (16, 64, 64)
    assert phases["ssr1"].data(0).video.shape == (8, 3, 4 + 1, 16, 16)


def test_phases_share_nothing_but_a_borrowed_encoder(tiny_folder):
    own, shared = imagen_video(size="tiny").system, imagen_video(size="tiny", text=str(tiny_folder)).system
    assert sorted(own.parts()) == sorted(f"{name}_{part}" for name in NAMES for part in ("text_encoder", "unet"))
    assert sorted(shared.parts()) == sorted(["text_encoder", *(f"{name}_unet" for name in NAMES)])
    assert not any(p.requires_grad for p in shared.parts()["text_encoder"].parameters())


def test_seeded_losses_have_not_moved(tmp_path):
    """Rewrite the file with ``python tests/recipes/test_imagen_video.py`` and say in the commit why they moved."""
    stored, found = json.loads(GOLDEN.read_text()), seeded_losses(tmp_path)
    assert list(found) == list(stored)
    for name in stored:
        assert found[name] == pytest.approx(stored[name], rel=1e-3), name


def test_stages_trained_apart_are_joined_into_one_model(tmp_path, capsys, monkeypatch):
    short = {name: row | dict(clips=row["batch"]) for name, row in cascade("tiny").items()}
    monkeypatch.setattr("noisereel.recipes.imagen_video.cascade", lambda size: short)
    monkeypatch.setattr("noisereel.stage.VALIDATION_TIMES", (0.5,))
    command = ["train", "imagen_video", "--size", "tiny", "--stills", "32", "--steps", "1", "--out", str(tmp_path / "run")]
    for name in ("ssr3", "base"):  # in any order
        assert main([*command, "--phase", name]) == 0
        assert not (tmp_path / "run" / "model").exists()
    assert (tmp_path / "run" / "base_images").is_dir(), "the base is built on what it learned from images"
    apart = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    assert main(command) == 0
    assert all(path.stat().st_mtime_ns == then for path, then in apart.items()), "nothing is trained twice"
    system = TextToVideo.from_pretrained(tmp_path / "run" / "model").system
    for name, stage in system.stages.items():
        assert stage.net.conv_out.weight.any(), f"{name} was born silent and has learned"
    *_, last = system.sample(["a red circle"], generators(0, [0]))
    assert last.video.shape == (1, 3, 16, 64, 64)
    assert main([*command, "--phase", "ssr9"]) == 2
    assert "no phase 'ssr9'; the phases are base_images, base, tsr1" in capsys.readouterr().err


def seeded_losses(folder: Path) -> dict[str, list[float]]:
    """Three steps of every phase."""
    quiet = dict(held_out=None, prompts=(), validate_every=10**6, preview_every=10**6)
    phases = imagen_video(size="tiny").phases()
    short = [replace(phase, clips=3 * phase.data.batch, **quiet) for phase in phases]
    return {phase.name: [progress.loss for progress in Trainer(phase, folder / phase.name).run()] for phase in short}


if __name__ == "__main__":
    import tempfile

    from noisereel.worlds.pools import Pools

    captions = Pools.captions
    Pools.captions = lambda pools, number, **which: captions(pools, 32, **which)
    with tempfile.TemporaryDirectory() as temporary:
        GOLDEN.write_text(json.dumps(seeded_losses(Path(temporary)), indent=1) + "\n")
