"""An autoencoder learns to reproduce clips, leaves latents of unit variance, and says truly how well it does."""

from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisereel import checkpoint
from noisereel.codecs.autoencoder import MOMENTUM, Autoencoder, follow, of_equal_length
from noisereel.codecs.causal_vae import CausalVAE
from noisereel.codecs.discriminator import Adversary, PatchDiscriminator
from noisereel.codecs.features import FeatureNet
from noisereel.codecs.frame_vae import FrameVAE
from noisereel.trainer import Phase, Trainer, latest
from noisereel.types import Batch, generators, rand


class TinyVae(nn.Module):
    """Every 2x2 pixels of a frame become one position; the decoder mixes frames by a layer that is zero at birth."""

    channels, stride, lead = 6, (1, 2, 2), 0
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv3d(3, 12, (1, 2, 2), stride=(1, 2, 2))
        self.inner = nn.Conv3d(6, 24, 1)
        self.temporal = nn.Conv3d(24, 24, (3, 1, 1), padding=(1, 0, 0))
        self.out = nn.ConvTranspose3d(24, 3, (1, 2, 2), stride=(1, 2, 2))
        nn.init.zeros_(self.temporal.weight)
        nn.init.zeros_(self.temporal.bias)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("std", torch.ones(6))
        self.seen: list[tuple[int, ...]] = []

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(tuple(video.shape))
        mean, logvar = self.encoder(video).chunk(2, dim=1)
        return mean, logvar - 4

    def decode_raw(self, latent: Tensor) -> Tensor:
        h = torch.tanh(self.inner(latent))
        return self.out(h + self.temporal(h))

    def encode(self, video: Tensor) -> Tensor:
        return (self.posterior(video)[0] - self.mean[:, None, None, None]) / self.std[:, None, None, None]


def smooth(count: int, frames: int = 5, seed: int = 0) -> Tensor:
    """Clips of moving colour gradients in [-1, 1]."""
    rates = rand(generators(seed, range(count)), 3, 3) * 4 - 2
    t, y, x = torch.meshgrid(torch.linspace(0, 1, frames), *[torch.linspace(-1, 1, 8)] * 2, indexing="ij")
    return torch.sin(torch.einsum("bca,athw->bcthw", rates, torch.stack([t, y, x])) + rates.sum(-1)[..., None, None, None])


def batch_of(video: Tensor, groups: Tensor | None = None) -> Batch:
    clips = len(video) if groups is None else int(groups.max()) + 1
    return Batch(video=video, captions=[None] * clips, fps=torch.full((clips,), 8.0), groups=groups)


def phase(target: Autoencoder, **changes: object) -> Phase:
    values: dict[str, object] = dict(name="vae", target=target, data=lambda draw: batch_of(smooth(4)), clips=1200)
    values |= dict(learning_rate=2e-2, decay="cosine", ema=60, held_out=batch_of(smooth(4)))
    return Phase(**values | changes)


def test_four_clips_are_learned_and_their_latents_have_unit_variance(tmp_path: Path) -> None:
    vae = TinyVae()
    target = Autoencoder(vae=vae, shown=smooth(2))
    before = target.validate(batch_of(smooth(4)), generators(0, range(4)))
    trainer = Trainer(phase(target), tmp_path)
    for progress in trainer.run():
        assert set(progress.parts) == {"l1", "kl"}
    trainer.adopt_average()
    after = target.validate(batch_of(smooth(4)), generators(0, range(4)))
    assert after["l1"] < before["l1"] / 10
    assert after["psnr"] > 30
    assert after["flicker"] == pytest.approx(1, abs=0.1)
    latents = vae.encode(smooth(4))
    assert latents.mean((0, 2, 3, 4)).abs().max() < 0.1
    assert latents.var((0, 2, 3, 4), correction=0).sub(1).abs().max() < 0.1
    trainer.export(tmp_path / "model", {})
    fresh = TinyVae()
    checkpoint.load(tmp_path / "model", {"vae": fresh})
    assert torch.equal(fresh.encode(smooth(4)), latents)


def test_the_scale_is_the_weighted_mixture_of_all_batches() -> None:
    vae = TinyVae()
    history = [rand(generators(7, range(3 * n, 3 * n + 3)), 6, 2, 3, 3) * (n + 1) - n for n in range(5)]
    for latents in history:
        follow(vae, [latents[:1].requires_grad_(), latents[1:, :, :1]])
        assert not vae.mean.requires_grad
    # what was there at the start, N(0, 1), then the numbers of each batch: an ever smaller share the older it is
    rows = [torch.cat([x[:1].flatten(2).movedim(1, 0).flatten(1), x[1:, :, :1].movedim(1, 0).flatten(1)], 1) for x in history]
    shares = [MOMENTUM * (1 - MOMENTUM) ** (4 - n) for n in range(5)]
    mean = sum(share * x.mean(1) for share, x in zip(shares, rows, strict=True))
    square = (1 - MOMENTUM) ** 5 + sum(share * x.square().mean(1) for share, x in zip(shares, rows, strict=True))
    torch.testing.assert_close(vae.mean, mean)
    torch.testing.assert_close(vae.std, (square - mean**2).sqrt())


def test_in_the_limit_the_scale_is_that_of_the_batch() -> None:
    vae, latents = TinyVae(), torch.randn(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.1 + 5
    latents.requires_grad_()
    for _ in range(600):
        follow(vae, [latents])
    torch.testing.assert_close(vae.mean, latents.detach().mean((0, 2, 3, 4)))
    torch.testing.assert_close(vae.std, latents.detach().std((0, 2, 3, 4), correction=0), rtol=1e-4, atol=0)


def test_validation_and_a_frozen_encoder_leave_the_scale_alone() -> None:
    vae = TinyVae()
    target, batch, rng = Autoencoder(vae=vae, shown=smooth(2)), batch_of(smooth(2)), generators(0, range(2))
    target.validate(batch, rng)
    target.preview(["a", "b"], rng)
    vae.encoder.requires_grad_(False)
    target.loss(batch, rng)
    assert torch.equal(vae.mean, torch.zeros(6))
    assert torch.equal(vae.std, torch.ones(6))
    vae.encoder.requires_grad_(True)
    target.loss(batch, rng)
    assert not torch.equal(vae.std, torch.ones(6))


def test_clips_of_a_sample_are_coded_apart() -> None:
    vae, video = TinyVae(), smooth(2, frames=7)
    nn.init.normal_(vae.temporal.weight)
    groups = torch.tensor([[0, 0, 0, 0, 0, 1, 2], [3, 3, 3, 3, 3, 4, 5]])
    batch = batch_of(video, groups)
    stacks = list(of_equal_length(batch, generators(0, range(2))))
    assert [tuple(clips.shape) for clips, _ in stacks] == [(2, 3, 5, 8, 8), (4, 3, 1, 8, 8)]
    assert torch.equal(stacks[1][0], torch.cat([video[:, :, 5:6], video[:, :, 6:7]]))
    target = Autoencoder(vae=vae, shown=video)
    joint = target.loss(batch, generators(0, range(2)))
    assert vae.seen == [(2, 3, 5, 8, 8), (4, 3, 1, 8, 8)]
    rng = generators(0, range(2))  # each sample's noise goes on from its clip to its images
    apart = [target.loss(batch_of(clips), rng * (len(clips) // 2)).total for clips, _ in stacks]
    torch.testing.assert_close(joint.total, (5 * apart[0] + 2 * apart[1]) / 7)


def test_a_sample_draws_its_own_noise() -> None:
    target, video = Autoencoder(vae=TinyVae(), shown=smooth(1)), smooth(3)
    together = target.loss(batch_of(video), generators(0, range(3))).total
    alone = [target.loss(batch_of(video[i : i + 1]), generators(0, [i])).total for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_previews_show_the_truth_on_the_left() -> None:
    clips = smooth(3)
    shown = Autoencoder(vae=TinyVae(), shown=clips).preview(["one", "two"], generators(0, range(2)))
    assert shown.shape == (2, 3, 5, 8, 16)
    assert torch.equal(shown[..., :8], clips[:2])
    assert shown.abs().max() <= 1


def test_validation_of_what_is_known() -> None:
    class Mean(TinyVae):
        """Reproduces every clip at half its contrast."""

        def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
            return video, torch.zeros_like(video)

        def decode_raw(self, latent: Tensor) -> Tensor:
            return latent / 2

    video = smooth(11)  # more than are decoded at once
    found = Autoencoder(vae=Mean(), shown=video).validate(batch_of(video), generators(0, range(11)))
    assert found["flicker"] == pytest.approx(0.5)
    assert found["l1"] == pytest.approx(float(video.abs().mean()) / 2)
    assert found["kl"] == pytest.approx(float(video.square().mean()) / 2)
    assert found["psnr"] == pytest.approx(float((10 * (4 / (video / 2).square().mean((1, 2, 3, 4))).log10()).mean()))
    assert "flicker" not in Autoencoder(vae=Mean(), shown=video).validate(batch_of(video[:, :, :1]), generators(0, range(11)))


def helpers() -> dict[str, Any]:
    """A feature network and an adversary, both tiny."""
    torch.manual_seed(1)
    net = PatchDiscriminator(width=4, depth=2)
    return dict(features=FeatureNet(stages=((4, 4), (8, 8))), adversary=Adversary(net=net, learning_rate=1e-3), motion=0.5)


def test_every_term_is_weighted_and_logged() -> None:
    target = Autoencoder(vae=TinyVae(), shown=smooth(1), kl=0.01, squared=0.5, perceptual=0.3, **helpers())
    found = target.loss(batch_of(smooth(2)), generators(0, range(2)))
    weights = dict(l1=1, l2=0.5, kl=0.01, motion=0.5, perceptual=0.3, adversary=1, discriminator=1)
    assert found.parts.keys() == weights.keys()
    assert float(found.total.detach()) == pytest.approx(sum(weights[name] * value for name, value in found.parts.items()))


def test_the_discriminator_moves_at_its_own_rate_and_the_features_not_at_all(tmp_path: Path) -> None:
    target = Autoencoder(vae=TinyVae(), shown=smooth(1), **helpers())
    trainer = Trainer(phase(target, clips=40), tmp_path)
    assert [group["lr"] for group in trainer.learner.optimizer.param_groups] == [2e-2, 1e-3]
    before = {name: deepcopy(part.state_dict()) for name, part in target.parts().items()}
    assert list(before) == ["vae", "features", "discriminator"]
    for _ in trainer.run():
        pass
    moved = {
        name: {key for key, value in part.state_dict().items() if not torch.equal(value, before[name][key])}
        for name, part in target.parts().items()
    }
    assert moved["features"] == set()
    assert moved["discriminator"] >= {name for name, _ in target.parts()["discriminator"].named_parameters()}
    assert moved["vae"] == set(before["vae"])


def test_a_continued_adversarial_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    for folder, steps in (("whole", [10]), ("parts", [3, 1, 6])):
        for count in steps:
            target = Autoencoder(vae=TinyVae(), shown=smooth(1), **helpers())
            trainer = Trainer(phase(target, clips=40), tmp_path / folder, precision="bf16")
            for _ in islice(trainer.run(), count):
                pass
    (one, _), (two, _) = (checkpoint.load_state(latest(tmp_path / folder) or "") for folder in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_only_the_temporal_layers_of_a_decoder_move(tmp_path: Path) -> None:
    """And they take away a flicker that the image decoder has (Blattmann et al. 2023, section 3.1.1)."""

    class Flickering(TinyVae):
        sign = 0.0

        def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
            mean, logvar = super().posterior(video)
            return mean + self.sign * (1 - 2 * (torch.arange(video.shape[2]) % 2))[:, None, None], logvar

    vae = Flickering()
    for _ in Trainer(phase(Autoencoder(vae=vae, shown=smooth(1)), clips=600), tmp_path / "images").run():
        pass
    vae.sign = 0.5
    frozen, batch, rng = deepcopy(vae.state_dict()), batch_of(smooth(4)), generators(0, range(4))
    target = Autoencoder(vae=vae, shown=smooth(1), moving=[*vae.temporal.parameters()], **helpers())
    before = target.validate(batch, rng)
    trainer = Trainer(phase(target, clips=400), tmp_path / "temporal")
    for _ in trainer.run():
        pass
    trainer.adopt_average()
    changed = {name for name, value in vae.state_dict().items() if not torch.equal(value, frozen[name])}
    assert changed == {"temporal.weight", "temporal.bias"}
    after = target.validate(batch, rng)
    assert abs(after["flicker"] - 1) < abs(before["flicker"] - 1) / 2
    assert after["kl"] == before["kl"]


def test_a_codec_without_temporal_layers_has_no_temporal_decoder_to_train() -> None:
    with pytest.raises(ValueError, match="a codec with temporal layers"):
        Autoencoder(vae=TinyVae(), shown=smooth(1), moving=[])


def causal() -> nn.Module:
    torch.manual_seed(0)
    return CausalVAE(widths=(8, 16), halve=("thw",), latent_channels=4, blocks=1, attention=False)


def framewise() -> nn.Module:
    torch.manual_seed(0)
    return FrameVAE(channels=4, width=8, multipliers=(1, 2), depth=1, norm_groups=4, temporal=True)


@pytest.mark.parametrize("make", [causal, framewise])
def test_the_real_codecs_learn_with_every_loss_from_videos_and_images(tmp_path: Path, make: Any) -> None:
    vae, video = make(), smooth(2, frames=7)
    batch = batch_of(video, torch.tensor([[0, 0, 0, 0, 0, 1, 2], [3, 3, 3, 3, 3, 4, 5]]))
    target = Autoencoder(vae=vae, shown=video, squared=1.0, **helpers())
    trainer = Trainer(phase(target, data=lambda draw: batch, held_out=batch, clips=60, learning_rate=1e-2), tmp_path)
    first, *_, last = [progress.parts["l1"] for progress in trainer.run()]
    assert last < first / 2


def test_the_frame_codec_s_temporal_layers_move_alone(tmp_path: Path) -> None:
    vae = framewise()
    frozen, temporal = deepcopy(vae.state_dict()), {id(parameter) for parameter in vae.temporal_parameters()}
    target = Autoencoder(vae=vae, shown=smooth(1), moving=[*vae.temporal_parameters()], **helpers())
    for _ in Trainer(phase(target, clips=16, ema=0), tmp_path).run():
        pass
    changed = {name for name, value in vae.state_dict().items() if not torch.equal(value, frozen[name])}
    assert changed == {name for name, parameter in vae.named_parameters() if id(parameter) in temporal}
