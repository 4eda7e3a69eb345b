"""Text-to-video-sd's U-Net, made small and at random by diffusers, opened as ours: same numbers, same names, both ways."""

from pathlib import Path
from typing import Any

import pytest
import torch

from noisereel.pretrained.folder import open_component, write_component
from noisereel.pretrained.text_to_video_sd import UNET3D, unet_options
from noisereel.types import Cond, Text

SMALL: dict[str, Any] = dict(
    block_out_channels=(16, 32, 32), layers_per_block=1, norm_num_groups=4, cross_attention_dim=12, attention_head_dim=8,
    down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
    up_block_types=("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"), sample_size=8,
)  # fmt: skip


@torch.no_grad()
def test_the_unet_is_the_peer_s(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    peer = diffusers.UNet3DConditionModel(**SMALL).eval()
    for parameter in peer.parameters():
        if not parameter.any():  # convolutions over time are born silent there too
            torch.nn.init.normal_(parameter, std=0.1)
    peer.save_pretrained(tmp_path / "peer")
    component = open_component(tmp_path / "peer", {"UNet3DConditionModel": UNET3D})
    x, tokens, t = torch.randn(2, 4, 3, 8, 16), torch.randn(2, 5, 12), torch.tensor([0.125, 0.75])
    text = Text(tokens=tokens, mask=torch.ones(2, 5, dtype=torch.bool), pooled=torch.zeros(2, 1))
    expected = peer(x, t * 1000, encoder_hidden_states=tokens).sample
    assert (component.module(x, t, Cond(text=text)) - expected).abs().max() < 1e-5 * expected.abs().max()

    write_component(tmp_path / "back", component)
    again = type(peer).from_pretrained(tmp_path / "back").state_dict()
    assert again.keys() == peer.state_dict().keys()
    assert all(torch.equal(again[name], weight) for name, weight in peer.state_dict().items())


def test_the_published_size() -> None:
    with torch.device("meta"):
        net = UNET3D.build(UNET3D.defaults)
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_411_233_860
    theirs = UNET3D.names(UNET3D.defaults).expected(net)
    assert sum(weight.numel() for weight in theirs.values()) == 1_411_233_860


def test_a_unet_that_cannot_be_expressed_is_refused() -> None:
    with pytest.raises(ValueError, match="num_attention_heads=8 is not supported, only with None"):
        unet_options({**UNET3D.defaults, "num_attention_heads": 8})
