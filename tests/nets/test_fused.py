"""The folded operations: their gradients against finite differences."""

import pytest
import torch
import torch.nn.functional as F

from noisereel.nets import fused

SPANS = ((3, range(1, 2)), (4, range(0, 3, 2)))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_adaptive_norm() -> None:
    args = random(2, 7, 6), random(2, 3, 6), random(2, 3, 6)
    assert torch.autograd.gradcheck(lambda x, gain, offset: fused.adaptive_norm(x, gain, offset, SPANS, 1e-5), args)


def test_gated() -> None:
    args = random(2, 7, 6), random(2, 7, 6), random(2, 3, 6)
    assert torch.autograd.gradcheck(lambda x, branch, gate: fused.gated(x, branch, gate, SPANS), args)


def test_turn() -> None:
    rotation = random(5, 3).detach(), random(5, 3).detach()
    assert torch.autograd.gradcheck(lambda x: fused.turn(x, rotation), (random(2, 3, 5, 6),))


def test_rms_norm() -> None:
    x, weight, grad = torch.randn(2, 5, 6, requires_grad=True), torch.randn(6, requires_grad=True), torch.randn(2, 5, 6)
    out, wanted = fused.rms_norm(x, weight, 1e-6), F.rms_norm(x, (6,), weight, 1e-6)
    torch.testing.assert_close(out, wanted)
    for a, b in zip(*(torch.autograd.grad(y, (x, weight), grad) for y in (out, wanted)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_written_out(masked: bool) -> None:
    mask = torch.tensor([[True, False, False], [False, True, True]]) if masked else None
    args = random(2, 2, 4, 6), random(2, 2, 5, 6), random(2, 2, 5, 6)
    assert torch.autograd.gradcheck(lambda q, k, v: fused.Attend.apply(q, k, v, mask), args)
    torch.testing.assert_close(fused.Attend.apply(*args, mask), fused.attend(*args, mask))


def test_attention_in_half_precision_is_as_exact_as_pytorch_s() -> None:
    full = [torch.randn(2, 2, 40, 16) for _ in range(3)]
    mask = torch.rand(2, 10) < 0.5
    exact = fused.attend(*full, mask)
    half = [x.bfloat16() for x in full]
    ours = fused.attend(*(x.clone().requires_grad_() for x in half), mask)
    assert type(ours.grad_fn).__name__ == "AttendBackward"
    with torch.no_grad():
        theirs = fused.attend(*half, mask)
    errors = [float((out.detach().float() - exact).norm() / exact.norm()) for out in (ours, theirs)]
    assert errors[0] < 1.5 * errors[1] < 0.02
