import pytest
import torch
import torch.nn.functional as F

from noisereel.nets.norm import FrameNorm, _Norm


def textbook(norm: FrameNorm, x: torch.Tensor, film: torch.Tensor | None, silu: bool) -> torch.Tensor:
    y = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    if film is not None:
        scale, shift = film[:, :, None, None].chunk(2, dim=1)
        y = y * (1 + scale) + shift
    return F.silu(y) if silu else y


@pytest.mark.parametrize("film", [False, True])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("size", [(2, 2), (3, 5), (8, 8)])
def test_is_group_norm_then_film_then_silu(film: bool, silu: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    norm = FrameNorm(4, 8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = (torch.randn(5, 8, *size) * 2 + 3).requires_grad_()
    modulation = torch.randn(5, 16, requires_grad=True) if film else None
    inputs = [x, norm.weight, norm.bias] + ([modulation] if film else [])
    ours, theirs = norm(x, modulation, silu), textbook(norm, x, modulation, silu)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
    push = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, inputs, push), torch.autograd.grad(theirs, inputs, push), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)


def test_gradients_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisereel.nets.norm._pixel_sums", lambda x: x.sum(1))
    torch.manual_seed(0)
    x, gain, offset = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 6, 8), (3, 8), (3, 8)))
    for silu in (False, True):
        assert torch.autograd.gradcheck(lambda *a, s=silu: _Norm.apply(*a, 4, 1e-5, s), (x, gain, offset))


def test_bf16_is_as_close_as_its_rounding() -> None:
    torch.manual_seed(0)
    norm = FrameNorm(4, 16)
    x = torch.randn(6, 16, 12, 12) + 1
    exact = norm(x, silu=True)
    error = (norm(x.bfloat16(), silu=True).float() - exact).norm() / exact.norm()
    assert error < 0.01


def test_fp32_stays_fp32_under_autocast() -> None:
    torch.manual_seed(0)
    norm = FrameNorm(4, 8)
    x = torch.randn(2, 8, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), norm(x.clone()))
        torch.testing.assert_close(norm(x), textbook(norm, x, None, False), rtol=1e-4, atol=1e-5)


def test_frames_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    norm = FrameNorm(2, 8)
    x = torch.randn(4, 8, 6, 6)
    changed = x.clone()
    changed[1] += 5
    assert torch.equal(norm(x)[[0, 2, 3]], norm(changed)[[0, 2, 3]])
