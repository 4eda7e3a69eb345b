"""Somebody's CLIP: the same embeddings as transformers computes, scaled."""

from pathlib import Path

import pytest
import torch

from noisereel.prior import Prior
from noisereel.recipes.make_a_video import make_a_video
from noisereel.text.contrastive import TextImage
from noisereel.text.pretrained_pair import DEVIATION, MEAN, PretrainedPair
from noisereel.types import generators

transformers = pytest.importorskip("transformers")

from text.test_pretrained import save as save_encoder  # noqa: E402
from text.test_pretrained import save_tokenizer  # noqa: E402

PROMPTS = ["a red circle moves left", "blue square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    numbers = save_tokenizer("clip", folder)
    end = numbers["<|endoftext|>"]
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": 32, "pad_token_id": end, "eos_token_id": end, "max_position_embeddings": 20}
    vision = {**size, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def test_embeddings_are_those_of_transformers(folder: Path) -> None:
    pair = PretrainedPair(str(folder))
    assert isinstance(pair, TextImage)
    peer = transformers.CLIPModel.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        PROMPTS, padding="max_length", max_length=20, return_tensors="pt"
    )
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, DEVIATION))
    with torch.no_grad():
        out = peer(input_ids=tokens.input_ids, pixel_values=(images - mean) / deviation)
    read = pair.read([*PROMPTS, None])
    torch.testing.assert_close(read.pooled[:2], out.text_embeds * 12**0.5, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pair.see(images * 2 - 1), out.image_embeds * 12**0.5, atol=1e-5, rtol=1e-5)
    assert not read.pooled[2].any()


def test_it_is_frozen_and_in_no_checkpoint(folder: Path) -> None:
    pair = PretrainedPair(str(folder))
    prior = Prior(pair, width=16, depth=1, heads=2).train()
    assert not any(parameter.requires_grad for parameter in pair.parameters())
    assert not any(module.training for module in pair.modules())
    assert {name.split(".")[0] for name in prior.state_dict()} == {"net"}
    before = pair.read(PROMPTS).pooled
    prior.load_state_dict(prior.state_dict())
    assert torch.equal(pair.read(PROMPTS).pooled, before)


def test_a_system_stands_on_it(folder: Path) -> None:
    plan = make_a_video(size="tiny", steps=2, clip=str(folder))
    text = plan.system.first.text
    assert text.pooled_dim == 12
    assert text.length(PROMPTS[0]) == 7  # five words between two marks
    assert text.unknown_words("zebra") == []
    assert not hasattr(text, "vocabulary")
    phases = plan.phases()
    assert [phase.name for phase in phases][:2] == ["prior", "images"]
    batch = phases[0].data(0)
    assert text.loss(batch, generators(0, range(len(batch.video)))).total.isfinite()


def test_what_is_no_clip_is_refused(folder: Path, tmp_path: Path) -> None:
    save_encoder("t5", tmp_path)
    with pytest.raises(ValueError, match="is a t5 model, which sees no images: give a CLIP"):
        PretrainedPair(str(tmp_path))
    save_encoder("clip", tmp_path / "text")
    with pytest.raises(ValueError, match="lacks"):
        PretrainedPair(str(tmp_path / "text"))
