"""One scalar and one backward pass are the two loops of adversarial training, exactly."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisereel.codecs.discriminator import Adversary, PatchDiscriminator
from noisereel.types import generators, rand


def clips(count: int, frames: int = 3, seed: int = 0) -> Tensor:
    return rand(generators(seed, range(count)), 3, frames, 16, 16) * 2 - 1


def networks() -> tuple[nn.Module, PatchDiscriminator]:
    """A decoder of two layers, and a discriminator."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv3d(8, 3, 1)), PatchDiscriminator(width=4, depth=2)


def gradients(net: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


def one_pass(decoder: nn.Module, adversary: Adversary, latent: Tensor, truth: Tensor) -> None:
    video, judged = adversary.heard(decoder(latent))
    terms = adversary.terms(judged, truth)
    (F.l1_loss(video, truth) + terms["adversary"] + terms["discriminator"]).backward()


def hinge(net: nn.Module, video: Tensor, truth: Tensor) -> Tensor:
    true, made = net(torch.cat([truth, video])).chunk(2)
    return 0.5 * (F.relu(1 - true).mean() + F.relu(1 + made).mean())


def test_one_backward_pass_is_that_of_two_loops() -> None:
    decoder, net = networks()
    other, judge = deepcopy(decoder), deepcopy(net)
    latent, truth = clips(2, seed=1), clips(2)
    one_pass(decoder, Adversary(net=net, weight=0.25, adaptive=False), latent, truth)

    video = other(latent)
    # In this order, which decides the layout of the summed gradient in memory, and with that the last bit of sums over it.
    (0.25 * -judge(video).mean() + F.l1_loss(video, truth)).backward()
    judge.zero_grad()  # the first loop moves the decoder alone
    hinge(judge, video.detach(), truth).backward()
    for single, double in ((decoder, other), (net, judge)):
        assert len(gradients(single)) == len(list(single.parameters()))
        assert all(map(torch.equal, gradients(single), gradients(double)))
    assert all(map(torch.equal, net.buffers(), judge.buffers()))  # of spectral normalisation


def test_the_adaptive_weight_makes_the_two_gradients_one_length() -> None:
    decoder, net = networks()
    other, judge = deepcopy(decoder), deepcopy(net)
    latent, truth = clips(2, seed=1), clips(2)
    one_pass(decoder, Adversary(net=net, weight=0.3), latent, truth)

    video = other(latent)
    (errors,) = torch.autograd.grad(F.l1_loss(video, truth), video, retain_graph=True)
    (judged,) = torch.autograd.grad(-judge(video).mean(), video)
    assert errors.norm() > 0 < judged.norm()
    video.backward(errors + 0.3 * errors.norm() / judged.norm() * judged)
    for found, expected in zip(gradients(decoder), gradients(other), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_discriminator_that_says_nothing_is_not_divided_by() -> None:
    class Silent(nn.Module):
        def forward(self, video: Tensor) -> Tensor:
            return 0 * video.mean(1)

    decoder, _ = networks()
    one_pass(decoder, Adversary(net=Silent()), clips(1, seed=1), clips(1))
    assert gradients(decoder)
    assert all(gradient.isfinite().all() for gradient in gradients(decoder))


@pytest.mark.parametrize(("frames", "seen"), [(1, 1), (4, 2), (5, 3), (17, 9)])
def test_every_length_is_judged_an_image_too(frames: int, seen: int) -> None:
    _, net = networks()
    assert net(clips(2, frames)).shape == (2, seen, 4, 4)


def test_an_image_is_judged_as_a_video_that_stands_still() -> None:
    _, net = networks()
    net.eval()
    image = clips(2, 1)
    still = net(image.expand(-1, -1, 6, -1, -1))
    torch.testing.assert_close(still, net(image).expand_as(still))


def test_a_patch_is_judged_by_what_is_near() -> None:
    _, net = networks()
    video = clips(1, 17).requires_grad_()
    net.eval()(video)[0, 0, 0, 0].backward()
    assert video.grad is not None
    near = video.grad.abs().amax((0, 1))
    assert near[0, 0, 0] > 0
    assert near[:, 12:].max() == near[:, :, 12:].max() == near[5:].max() == 0


def test_it_learns_to_tell() -> None:
    torch.manual_seed(0)
    net = PatchDiscriminator(width=4, depth=2)
    adversary = Adversary(net=net)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    truth = clips(4)
    blurred = F.avg_pool3d(truth, (1, 3, 3), stride=1, padding=(0, 1, 1))
    for _ in range(150):
        optimizer.zero_grad()
        found = adversary.terms(blurred, truth)["discriminator"]
        found.backward()
        optimizer.step()
    assert found < 0.25  # from 1


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_bf16_is_about_the_same(frames: int) -> None:
    """PyTorch 2.13 has a convolution of one frame that is not."""
    _, net = networks()
    net.eval()
    video = clips(8, frames)
    for _ in range(3):  # in memory that held something else
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = net(video)
        torch.testing.assert_close(found.float(), net(video), rtol=0.05, atol=5e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = Adversary(net=net).terms(video.requires_grad_(), clips(8, frames, seed=1))
    assert all(value.dtype == torch.float32 for value in terms.values())
