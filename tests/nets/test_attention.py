import math

import pytest
import torch

from noisereel.nets.attention import Attention, SpatialAttention, SpatialTransformer, attend, rotary_angles, rotate
from noisereel.nets.frames import Frames
from noisereel.nets.layers import Context


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attend_is_a_masked_softmax(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, length, 8) for length in (5, 7, 7))
    mask = torch.rand(2, 1, 5, 7) > 0.4
    mask[..., 0] = True
    logits = (q @ k.mT / math.sqrt(8)).masked_fill(~mask, -math.inf)
    expected = logits.softmax(-1) @ v
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(attend(q.to(dtype), k.to(dtype), v.to(dtype), mask).float(), expected, rtol=0, atol=tolerance)


def test_rotation_makes_logits_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 6, 16), torch.randn(1, 6, 16)
    first, later = rotary_angles(torch.arange(6), 16), rotary_angles(torch.arange(6) + 11, 16)
    logits = rotate(q, first) @ rotate(k, first).mT
    torch.testing.assert_close(rotate(q, later) @ rotate(k, later).mT, logits, rtol=0, atol=1e-4)
    assert not torch.allclose(logits, q @ k.mT, atol=0.1)
    torch.testing.assert_close(rotate(q, first).norm(dim=-1), q.norm(dim=-1))


def test_masked_text_is_not_read() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 2, text_width=12)
    torch.nn.init.normal_(attention.to_out.weight)
    x, tokens = torch.randn(2, 5, 16), torch.randn(2, 4, 12)
    mask = torch.tensor([[True, True, False, False]] * 2)
    before = attention(x, tokens, mask)
    tokens[:, 2:] = 100
    assert torch.equal(attention(x, tokens, mask), before)
    torch.testing.assert_close(attention(x, tokens[:, :2]), before)


@pytest.mark.parametrize("kind", [SpatialAttention, SpatialTransformer])
def test_frames_of_several_samples_read_their_own_text(kind: type) -> None:
    torch.manual_seed(0)
    layer = kind(16, 2, text_dim=12, norm_groups=4)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, tokens, mask = torch.randn(6, 16, 4, 3), torch.randn(2, 5, 12), torch.ones(2, 5, dtype=torch.bool)

    def run(x: torch.Tensor, tokens: torch.Tensor, samples: int) -> torch.Tensor:
        frames = Frames.of(samples, len(x) // samples, None)
        context = Context(frames=frames, embedding=torch.zeros(len(x), 1), tokens=tokens, mask=mask[: len(tokens)])
        return layer(x.contiguous(memory_format=torch.channels_last), context)

    together = run(x, tokens, 2)
    for sample in range(2):
        alone = run(x[3 * sample : 3 * sample + 3], tokens[sample : sample + 1], 1)
        torch.testing.assert_close(alone, together[3 * sample : 3 * sample + 3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(run(x, tokens.flip(0), 2), together, atol=1e-2)
