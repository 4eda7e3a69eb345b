"""The spatial part of the U-Net computes what diffusers' ``UNet2DConditionModel`` computes, through a map of names."""

import pytest
import torch

from noisereel.nets.unet import UNet
from noisereel.types import Cond, Text

INNER = {  # of one transformer block
    "norm": "norm", "proj_in": "proj_in", "proj_out": "proj_out",
    "norm1": "transformer_blocks.0.norm1", "norm2": "transformer_blocks.0.norm2", "norm3": "transformer_blocks.0.norm3",
    "attention": "transformer_blocks.0.attn1", "text_attention": "transformer_blocks.0.attn2",
    "feed_forward.up": "transformer_blocks.0.ff.net.0.proj", "feed_forward.down": "transformer_blocks.0.ff.net.2",
}  # fmt: skip
RES = {"embed": "time_emb_proj", "shortcut": "conv_shortcut"}
OUTER = {"time.mlp.0": "time_embedding.linear_1", "time.mlp.2": "time_embedding.linear_2", "norm_out": "conv_norm_out"}


def places(net: UNet) -> dict[str, str]:
    """Where diffusers keeps each block: the prefix of its residual block, by the prefix of ours."""
    levels, depth = len(net.config["multipliers"]), net.config["depth"]
    found, number = {}, 0
    for level in range(levels):
        for j in range(depth):
            found[f"blocks.{number}"] = f"down_blocks.{level}.*.{j}"
            number += 1
        if level < levels - 1:
            found[f"blocks.{number}"] = f"down_blocks.{level}.*.0"
            number += 1
    for j in range(2):
        found[f"blocks.{number}"] = f"mid_block.*.{j}"
        number += 1
    for level in range(levels):
        for j in range(depth + 1):
            found[f"blocks.{number}"] = f"up_blocks.{level}.*.{j}"
            number += 1
    return found


def theirs(name: str, where: dict[str, str]) -> str:
    """The name in diffusers of one of our parameters."""
    stem, leaf = name.rsplit(".", 1)
    if not name.startswith("blocks."):
        return f"{OUTER.get(stem, stem)}.{leaf}"
    _, number, part, rest = stem.split(".", 3)
    place = where[f"blocks.{number}"]
    if part == "res":
        return f"{place.replace('*', 'resnets')}.{RES.get(rest, rest)}.{leaf}"
    if part in ("downsample", "upsample"):
        return f"{place.rsplit('*', 1)[0]}{part}rs.0.{rest}.{leaf}"
    rest = rest.replace("to_out", "to_out.0")
    head = max((key for key in INNER if rest == key or rest.startswith(key + ".")), key=len)
    return f"{place.replace('*', 'attentions')}.{INNER[head]}{rest[len(head) :]}.{leaf}"


@pytest.mark.parametrize("width", [16, 32])
def test_outputs_and_names_agree(width: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    peer = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(width, 2 * width, 2 * width), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12, attention_head_dim=4, norm_num_groups=8,
    ).eval()  # fmt: skip
    net = UNet(
        channels=4, width=width, multipliers=(1, 2, 2), depth=2, attention=(True, True, False), attention_kind="transformer",
        head_width=(width // 4, width // 2, width // 2), temporal_attention="none", text_dim=12, norm_groups=8,
        scale_shift=False,
    )  # fmt: skip
    where, given = places(net), dict(peer.state_dict())
    state = {name: given.pop(theirs(name, where)).view_as(own) for name, own in net.state_dict().items()}
    assert not given
    net.load_state_dict(state)

    x, tokens, t = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 12), torch.tensor([0.125, 0.75])
    text = Text(tokens=tokens, mask=torch.ones(2, 5, dtype=torch.bool), pooled=torch.zeros(2, 1))
    with torch.no_grad():
        expected = peer(x, t * 1000, encoder_hidden_states=tokens).sample
        out = net(x[:, :, None], t, Cond(text=text))[:, :, 0]
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
