"""Adapters change nothing at birth and at weight 0, the same whether fused or not, and are named as PEFT names them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from noisereel import adapters
from noisereel.cli.app import main
from noisereel.nets.dit import DiT
from noisereel.nets.unet import UNet
from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import initialised
from noisereel.types import Cond, Text

NETS = ("dit", "unet")


def network(kind: str) -> nn.Module:
    with initialised(0):
        made: nn.Module = (
            DiT(channels=3, width=16, depth=2, heads=2, patch=(1, 4, 4), text_dim=8, pooled_dim=8)
            if kind == "dit"
            else UNet(channels=3, width=8, multipliers=(1, 2), depth=1, attention=(True, True), pooled_dim=8, norm_groups=4)
        )
        for parameter in made.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return made


@torch.no_grad()
def answer(net: nn.Module) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    x, tokens = torch.randn(2, 3, 2, 8, 8, generator=rng), torch.randn(2, 4, 8, generator=rng)
    text = Text(tokens=tokens, mask=torch.ones(2, 4, dtype=torch.bool), pooled=tokens[:, 0])
    return net(x, torch.tensor([0.3, 0.8]), Cond(text=text))


def taught(kind: str) -> nn.Module:
    """A network with an adapter that has learned something."""
    net = network(kind)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapters.add(net, 3):
            parameter += 0.2 * torch.randn(parameter.shape, generator=rng)
    return net


@pytest.mark.parametrize("kind", NETS)
def test_an_adapter_changes_nothing_at_birth_and_fused_what_it_did_before(kind: str, tmp_path: Path) -> None:
    base, born = network(kind), network(kind)
    moving = adapters.add(born, 3)
    assert all(3 in parameter.shape for parameter in moving)
    assert torch.equal(answer(born), answer(base))

    net = taught(kind)
    apart = answer(net)
    assert (apart - answer(base)).abs().max() > 1e-2, "it learned something"
    path = adapters.save(tmp_path / adapters.FILE, {"net": net})
    adapters.fuse(net)
    assert [name for name, _ in net.named_parameters()] == [name for name, _ in base.named_parameters()]
    torch.testing.assert_close(answer(net), apart, atol=1e-5, rtol=1e-5)

    opened = {weight: network(kind) for weight in (0.0, 0.5, 1.0)}
    for weight, other in opened.items():
        assert adapters.load(path, {"net": other, "vae": nn.Linear(2, 2)}, weight=weight) == [other]
    assert torch.equal(answer(opened[0.0]), answer(base))
    assert torch.equal(answer(opened[1.0]), apart)
    assert not torch.allclose(answer(opened[0.5]), apart)
    half = answer(opened[0.5])
    adapters.fuse(opened[0.5])
    torch.testing.assert_close(answer(opened[0.5]), half, atol=1e-5, rtol=1e-5)
    adapters.fuse(opened[0.0])
    assert torch.equal(answer(opened[0.0]), answer(base))


@pytest.mark.parametrize("kind", NETS)
def test_names_are_those_of_peft_and_diffusers(kind: str, tmp_path: Path) -> None:
    import peft
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE

    assert (adapters.FILE, adapters.NOTE) == (LORA_WEIGHT_NAME_SAFE, LORA_ADAPTER_METADATA_KEY)
    net = taught(kind)
    with safe_open(adapters.save(tmp_path / "a.safetensors", {"unet": net}), framework="pt") as file:
        state = {key.removeprefix("unet."): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        note = {key.removeprefix("unet."): value for key, value in json.loads(file.metadata()[adapters.NOTE]).items()}
    assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in state)
    fresh = network(kind)
    peft.inject_adapter_in_model(
        peft.LoraConfig(r=note["r"], lora_alpha=note["lora_alpha"], target_modules=note["target_modules"]), fresh
    )
    result = peft.set_peft_model_state_dict(fresh, state)
    assert not result.unexpected_keys
    assert torch.equal(answer(fresh), answer(net))


def test_adapters_of_something_else_are_refused(tmp_path: Path) -> None:
    path = adapters.save(tmp_path / "a.safetensors", {"unet": taught("unet")})
    with pytest.raises(ValueError, match="it is for another model"):
        adapters.load(path, {"unet": network("dit")})
    with pytest.raises(ValueError, match="adapters on transformer: it is for another model"):
        adapters.load(path, {"transformer": network("unet")})
    with pytest.raises(ValueError, match="has an adapter already"):
        adapters.add(taught("dit"), 2)
    with pytest.raises(ValueError, match="no file of adapters"):
        adapters.load(tmp_path / "nothing", {})


@pytest.mark.usefixtures("few_words")
def test_an_adapter_is_trained_kept_and_used(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--size", "tiny", "--images", "0", "--batch", "4", "--clips", "8", "--steps", "1", "--rate", "0.01")
    assert main(["train", "vdm", *options, "--out", "run", "--lora", "2"]) == 2, "on what?"
    assert main(["train", "vdm", *options, "--out", "run", "--lora", "2", "--start", str(tiny_folder)]) == 0
    assert not Path("run/model").exists()
    base, pipe = TextToVideo.from_pretrained(tiny_folder), TextToVideo.from_pretrained(tiny_folder)
    pipe.load_lora("run/lora", 1.0)
    before = dict(base.system.first.net.named_parameters())
    after = {name.replace(".base_layer", ""): p for name, p in pipe.system.first.net.named_parameters() if "lora_" not in name}
    assert all(torch.equal(after[name], before[name]) for name in before), "what it was trained on stays as it was"
    assert any(p.any() for name, p in pipe.system.first.net.named_parameters() if "lora_B" in name), "and it learned"
    for name, more in {"base": [], "zero": ["--lora", "run/lora=0"], "one": ["--lora", "run/lora"]}.items():
        asked = ["generate", "a red circle", "--model", str(tiny_folder), "--seed", "1", "-o", f"{name}.apng", *more]
        assert main(asked) == 0
    frames = {name: Path(f"{name}.apng").read_bytes() for name in ("base", "one")}
    assert frames["base"] != frames["one"]
    assert main(["generate", "--like", "one.apng", "-o", "again.apng"]) == 0
    assert Path("again.apng").read_bytes() == frames["one"]
