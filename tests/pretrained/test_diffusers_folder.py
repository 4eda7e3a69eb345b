"""Diffusers folders: read whole or in shards, refused in one line, and written back as they were."""

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peers
import pytest
import torch
from safetensors.torch import load_file, save_file

from noisereel.pipeline import TextToVideo
from noisereel.pretrained import cogvideox_keys, wan_keys
from noisereel.pretrained.cogvideox_vae import COGVIDEOX_VAE
from noisereel.pretrained.folder import Shards, unfilled
from noisereel.pretrained.stable_diffusion import UNET2D, VAE
from noisereel.pretrained.text_to_video_sd import UNET3D
from noisereel.pretrained.wan_vae import WAN_VAE

diffusers = pytest.importorskip("diffusers")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion, small; the VAE in shards."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    pipeline = peers.stable_diffusion()
    peers.save(pipeline, folder)
    (folder / "vae" / WEIGHTS).unlink()
    pipeline.vae.save_pretrained(folder / "vae", max_shard_size="50KB")
    assert len(list((folder / "vae").glob("*.safetensors"))) > 2
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """The same, to be spoiled."""
    return shutil.copytree(saved, tmp_path / "copy")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def first_shard(folder: Path) -> Path:
    return min((folder / "vae").glob("*-of-*.safetensors"))


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "unet" / WEIGHTS), folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / "unet" / WEIGHTS).unlink()


def without_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "unet" / WEIGHTS)
    del tensors["conv_in.bias"], tensors["mid_block.resnets.0.norm1.weight"]
    save_file(tensors, folder / "unet" / WEIGHTS)


def mis_shaped(folder: Path) -> None:
    tensors = load_file(folder / "unet" / WEIGHTS)
    save_file(tensors | {"conv_in.bias": torch.zeros(3)}, folder / "unet" / WEIGHTS)


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "another family": (
        lambda folder: edit(folder / "model_index.json", _class_name="HunyuanVideoPipeline"),
        "holds a HunyuanVideoPipeline, which cannot be opened; what can: .*CogVideoXPipeline",
    ),
    "no family": (lambda folder: edit(folder / "model_index.json", _class_name=None), "names no recipe and no pipeline"),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json is missing"),
    "another network": (
        lambda folder: edit(folder / "unet" / "config.json", _class_name="UNet1DModel"),
        "holds a UNet1DModel; what can be opened here is UNet2DConditionModel",
    ),
    "a new field": (
        lambda folder: edit(folder / "unet" / "config.json", sparkle=3, glitter=None),
        "unknown fields glitter, sparkle",
    ),
    "a value we cannot express": (
        lambda folder: edit(folder / "unet" / "config.json", freq_shift=1),
        "freq_shift=1 is not supported, only with 0",
    ),
    "a missing component": (lambda folder: shutil.rmtree(folder / "vae"), "config.json is missing"),
    "a missing shard": (lambda folder: first_shard(folder).unlink(), "vae lacks the shard .*00001-of-.*fetch it again"),
    "half a shard": (lambda folder: halved(first_shard(folder)), "not a whole safetensors file"),
    "half a file": (lambda folder: halved(folder / "unet" / WEIGHTS), "not a whole safetensors file"),
    "a shard of another": (
        lambda folder: save_file({"x": torch.zeros(1)}, first_shard(folder)),
        "does not hold .*, which .*index.json looks for there",
    ),
    "a pickle": (as_pickle, "model.bin is a pickle, which can run code and is never opened: convert it to safetensors"),
    "no weights": (lambda folder: (folder / "unet" / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "missing weights": (without_a_weight, "unet lacks conv_in.bias, mid_block.resnets.0.norm1.weight: "),
    "a mis-shaped weight": (mis_shaped, r"wrong size conv_in.bias of \[3\] for \[32\]"),
    "another size": (
        lambda folder: edit(folder / "unet" / "config.json", cross_attention_dim=24),
        r"wrong size .*attn2.to_k.weight of \[32, 16\] for \[32, 24\].* and 5 more",
    ),
    "no scheduler": (lambda folder: shutil.rmtree(folder / "scheduler"), "scheduler_config.json is missing"),
    "no text encoder": (lambda folder: shutil.rmtree(folder / "text_encoder"), "no text encoder at"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_wrong_is_one_line(how: str, copy: Path) -> None:
    spoil, told = SPOILT[how]
    spoil(copy)
    with pytest.raises(ValueError, match=told) as caught:
        TextToVideo.from_pretrained(copy)
    assert "\n" not in str(caught.value)
    assert "copy" in str(caught.value)


def test_shards_are_read_like_one_file(saved: Path) -> None:
    shards = Shards(saved / "vae")
    whole = diffusers.AutoencoderKL.from_pretrained(saved / "vae").state_dict()
    assert shards.keys() == whole.keys()
    assert all(torch.equal(shards[name], value) for name, value in whole.items())
    assert all(shards.shape(name) == tuple(value.shape) for name, value in whole.items())


def test_written_back_it_is_what_it_was(saved: Path, tmp_path: Path) -> None:
    pipe = TextToVideo.from_pretrained(saved)
    pipe.save_pretrained(tmp_path / "again", layout="diffusers")
    for part in ("unet", "vae"):
        before, after = Shards(saved / part), load_file(tmp_path / "again" / part / WEIGHTS)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], value) for name, value in after.items())
    for file in (file.relative_to(saved) for file in saved.rglob("*.json") if not file.name.endswith(".index.json")):
        assert json.loads((saved / file).read_text()) == json.loads((tmp_path / "again" / file).read_text()), file
    peer = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "again")
    assert peer.unet.config.cross_attention_dim == 16
    options = dict(num_inference_steps=2, output_type="np")
    again = TextToVideo.from_pretrained(tmp_path / "again")
    made = [each("a red circle", generator=torch.Generator().manual_seed(0), **options).frames for each in (pipe, again)]
    assert np.array_equal(*made)


PIPELINES: dict[str, Callable[[], object]] = {
    "text-to-video-sd": peers.text_to_video_sd,
    "cogvideox 2B": peers.cogvideox,
    "cogvideox 5B from images": lambda: peers.cogvideox(image=True, **peers.COGVIDEOX_5B_IMAGE),
    "cogvideox 1.5 from images": lambda: peers.cogvideox(image=True, **peers.COGVIDEOX_15_IMAGE),
    "wan 2.1 from images": lambda: peers.wan(image=True, seen=True),
    "wan 2.2 A14B": lambda: peers.wan(experts=True, boundary_ratio=0.875),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_is_written_back_to_the_bit(name: str, tmp_path: Path) -> None:
    peers.save(PIPELINES[name](), tmp_path / "one")
    TextToVideo.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    files = {file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*.*")}
    assert {file.relative_to(tmp_path / "two") for file in (tmp_path / "two").rglob("*.*")} == files
    for file in files:
        if file.suffix == ".safetensors":
            before, after = (load_file(tmp_path / side / file) for side in ("one", "two"))
            assert before.keys() == after.keys()
            assert all(torch.equal(value, after[name]) for name, value in before.items()), file
        elif file.suffix == ".json":
            before, after = (json.loads((tmp_path / side / file).read_text()) for side in ("one", "two"))
            assert before == after, file


def test_experts_need_a_boundary(tmp_path: Path) -> None:
    peers.save(peers.wan(experts=True), tmp_path)
    with pytest.raises(ValueError, match="has 2 transformers and boundary_ratio=None"):
        TextToVideo.from_pretrained(tmp_path)


def test_it_is_not_written_back_when_its_source_is_gone(copy: Path, tmp_path: Path) -> None:
    pipe = TextToVideo.from_pretrained(copy)
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(ValueError, match="from which tokenizer would be copied, is gone"):
        pipe.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_it_replaces_a_checkpoint_and_keeps_what_lies_beside(saved: Path, copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    pipe = TextToVideo.from_pretrained(copy)
    pipe.system.first.net.get_parameter("conv_out.bias").add_(1)
    pipe.save_pretrained(copy)
    assert (copy / "notes.txt").read_text() == "mine"
    assert not list((copy / "vae").glob("*-of-*"))
    assert torch.equal(Shards(copy / "unet")["conv_out.bias"], Shards(saved / "unet")["conv_out.bias"] + 1)


def test_the_layout_is_that_of_the_model(saved: Path, tmp_path: Path, tiny: TextToVideo) -> None:
    with pytest.raises(
        ValueError, match="StableDiffusionPipeline model can be written in the layout 'diffusers', not 'noisereel'"
    ):
        TextToVideo.from_pretrained(saved).save_pretrained(tmp_path / "x", layout="noisereel")
    with pytest.raises(ValueError, match="vdm model can be written in the layout 'noisereel', not 'diffusers'"):
        tiny.save_pretrained(tmp_path / "x", layout="diffusers")
    assert not (tmp_path / "x").exists()


def test_in_half_precision(saved: Path, tmp_path: Path) -> None:
    pipe = TextToVideo.from_pretrained(saved, torch_dtype=torch.bfloat16)
    assert {parameter.dtype for part in pipe.system.parts().values() for parameter in part.parameters()} == {torch.bfloat16}
    options = dict(num_inference_steps=2, output_type="np", guidance_scale=2.0)
    made, exact = (
        each("a red circle", generator=torch.Generator().manual_seed(0), **options).frames
        for each in (pipe, TextToVideo.from_pretrained(saved))
    )
    assert 0 < np.abs(made - exact).mean() < 0.05
    pipe.save_pretrained(tmp_path / "half")
    assert Shards(tmp_path / "half" / "unet")["conv_in.bias"].dtype == torch.bfloat16


KINDS = {
    "UNet2DConditionModel": UNET2D, "AutoencoderKL": VAE, "UNet3DConditionModel": UNET3D,
    "CogVideoXTransformer3DModel": cogvideox_keys.TRANSFORMER, "AutoencoderKLCogVideoX": COGVIDEOX_VAE,
    "WanTransformer3DModel": wan_keys.TRANSFORMER, "AutoencoderKLWan": WAN_VAE,
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_field_of_a_network_is_known_with_the_default_it_has_there(name: str) -> None:
    def plain(value: object) -> object:
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    fields = dict(inspect.signature(getattr(diffusers, name).__init__).parameters)
    del fields["self"]
    for field, parameter in fields.items():
        assert plain(KINDS[name].defaults[field]) == plain(parameter.default), field
    retired = {"AutoencoderKLWan": {"clip_output"}}
    assert set(KINDS[name].defaults) - set(fields) <= retired.get(name, set())


def test_networks_to_be_filled_are_made_without_drawing() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with unfilled(torch.bfloat16):
        layer = torch.nn.Linear(8, 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.weight.dtype == torch.bfloat16
    assert torch.nn.Linear(2, 2).weight.dtype == torch.float32
    assert not torch.equal(torch.get_rng_state(), state)
