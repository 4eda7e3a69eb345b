"""Make-A-Video: motion from videos that nobody has described (Singer et al. 2022, arXiv 2209.14792)."""

from __future__ import annotations

from typing import Any, Literal

from noisereel.codecs.contrasts import Contrasts
from noisereel.codecs.pixels import Pixels
from noisereel.diffusion.times import logit_normal
from noisereel.recipes.make_a_video_networks import between, decoder, prior, upsampler
from noisereel.recipes.make_a_video_training import phases
from noisereel.recipes.plan import Plan, initialised, sized
from noisereel.system import System

Size = Literal["tiny", "small", "base", "paper"]

# For each size: the first videos and their process; the encoder of captions and images, the prior; the network of the first
# videos; the stages that enlarge them; and training: how far each phase goes, and at what pace.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(
        shape=(4, 16, 16), fps=4.0, codec=Pixels(patch=2), shift=-2.0, predicts="x0",
        text=dict(dim=32), encoder=dict(dim=32, size=16, width=32, depth=1),
        prior=dict(width=32, depth=1, heads=4), prior_guidance=1.5,
        net=dict(width=16, multipliers=(1, 2), depth=1, attention=(False, True), head_width=8, norm_groups=8, pooled_tokens=4),
        larger=dict(
            super=dict(
                space=2, apart=False, codec=Pixels(patch=2), shift=-2.0, predicts="x0",
                noise=0.2, frames=4, crop=16, batch=4, rate=2e-3,
                net=dict(width=8, multipliers=(1, 2), depth=1, attention=(False, False), norm_groups=8),
            ),
            sharp=dict(
                space=2, apart=True, codec=Pixels(patch=4), shift=-2.0, predicts="x0",
                noise=0.2, frames=1, crop=32, batch=4, rate=2e-3,
                net=dict(width=8, multipliers=(1, 2), depth=1, attention=(False, False), norm_groups=8),
            ),
        ),
        clips=dict(
            contrastive=512, prior=512, images=256, fast=64, videos=128, between=64, super_images=128, super=64, sharp_images=64
        ),
        pairs=32, piece=6, batch=8, text_rate=2e-3, rate=2e-3,
    ),
    "small": dict(
        shape=(4, 32, 32), fps=3.2, codec=Contrasts(), shift=-2.5, draw=logit_normal(0.5, 1.2), predicts="x0",
        text=dict(dim=128), encoder=dict(dim=128, size=32, width=128, depth=2),
        prior=dict(width=192, depth=4, heads=6), prior_guidance=1.5,
        net=dict(
            width=32, multipliers=(1, 2, 4), depth=(1, 1, 2), attention=(False, False, True), head_width=32, norm_groups=16,
        ),
        larger=dict(
            super=dict(
                space=2, apart=False, codec=Contrasts(), shift=-3.0, predicts="x0",
                noise=0.2, frames=8, crop=32, batch=8, rate=6e-4,
                net=dict(width=32, multipliers=(1, 2), depth=1, attention=(False, False), norm_groups=16),
            ),
        ),
        clips=dict(
            contrastive=60_000, prior=60_000, images=80_000, fast=2_000, videos=20_000, between=4_000, super_images=24_000,
            super=3_000,
        ),
        pairs=128, piece=11, batch=8, text_rate=1e-3, rate=1.5e-3,
    ),
    "base": dict(
        shape=(16, 64, 64), fps=3.2, codec=Pixels(patch=2), shift=-4.0, predicts="x0",
        text=dict(dim=256, depth=4, heads=8), encoder=dict(dim=256, size=64, width=256, depth=4, heads=8),
        prior=dict(width=512, depth=8, heads=8), prior_guidance=2.0,
        net=dict(width=128, multipliers=(1, 2, 3, 4), attention=(False, True, True, True), pooled_tokens=4),
        larger=dict(
            super=dict(
                space=4, apart=False, codec=Pixels(patch=2), shift=-4.0, predicts="x0",
                noise=0.3, frames=16, crop=64, batch=32, rate=3e-4,
                net=dict(width=96, multipliers=(1, 2, 3), attention=(False,) * 3),
            ),
        ),
        clips=dict(
            contrastive=4_000_000, prior=8_000_000, images=8_000_000, fast=200_000, videos=800_000, between=400_000,
            super_images=1_000_000, super=200_000,
        ),
        pairs=1024, piece=16, batch=64, text_rate=5e-4, rate=3e-4,
    ),
    "paper": dict(
        shape=(16, 64, 64), fps=6.0, codec=Pixels(), shift=0.0, predicts="eps",
        text=dict(vocabulary_size=49408, dim=768, depth=12, heads=12, max_length=77),
        encoder=dict(dim=768, size=224, width=1024, depth=24, heads=16),
        prior=dict(width=2048, depth=24, heads=32), prior_guidance=2.0,
        net=dict(
            width=512, multipliers=(1, 2, 3, 4), depth=3, attention=(False, True, True, True), temporal_attention="relative",
            pooled_tokens=4,
        ),
        larger=dict(
            super=dict(
                space=4, apart=False, codec=Pixels(), shift=0.0, predicts="eps",
                noise=0.3, frames=16, crop=64, batch=512, rate=1e-4,
                net=dict(width=320, multipliers=(1, 2, 3, 4), depth=3, attention=(False,) * 4),
            ),
            sharp=dict(
                space=3, apart=True, codec=Pixels(), shift=0.0, predicts="eps",
                noise=0.3, frames=1, crop=256, batch=512, rate=1e-4,
                net=dict(width=192, multipliers=(1, 1, 2, 2, 4, 4), attention=(False,) * 6),
            ),
        ),
        clips=dict(
            contrastive=2_300_000_000, prior=2_300_000_000, images=2_300_000_000, fast=10_000_000, videos=10_000_000,
            between=10_000_000, super_images=1_000_000_000, super=20_000_000, sharp_images=1_000_000_000,
        ),
        pairs=4096, piece=16, batch=512, text_rate=1e-4, rate=1e-4,
    ),
}  # fmt: skip


def make_a_video(
    size: Size = "small",
    data: str = "shapes-small",
    clip: str = "",
    images: int = 2,
    guidance: float = 2.0,
    steps: int = 24,
    pace: float = 1.0,
    rate: float = 0.0,
    seed: int = 0,
) -> Plan:
    """A prior from captions to what an image shows, and networks told of nothing else: they learn motion from bare videos.

    Args:
        size: tiny (seconds, for tests), small (two hours of a CPU core that computes in bf16), base (an accelerator), or
            paper (as published, as far as it is).
        data: what to train on, see ``noisereel.worlds.pools``.
        clip: the folder or hub name of a CLIP to take instead of training an encoder of captions and images.
        images: images appended to each video, captions withheld; 0 is the paper's.
        guidance: classifier-free guidance scale of the first videos; 1 is none.
        steps: sampling steps of each stage.
        pace: how far every phase goes, as a share of the size's own length.
        rate: learning rate of the video networks; 0 is the size's own.
        seed: of the initial weights and of the order of the data.
    """
    preset = sized(SIZES, size, rate=rate) | dict(guidance=guidance, steps=steps, pace=pace)
    if not pace > 0:
        raise ValueError(f"a pace of {pace} trains nothing: give a share above 0, such as 0.5")
    with initialised(seed):
        base = decoder(preset, prior(preset, clip))
        stages = {"base": base, "between": between(base, preset["piece"])}
        for name, row in preset["larger"].items():
            stages[name] = upsampler(list(stages.values())[-1], row, steps)
    system = System(stages=stages)
    return Plan(system=system, phases=lambda: phases(system, preset, data, images, seed))
