"""A trained text encoder, taken over and frozen; a model that took one is rebuilt from its own folder."""

import shutil
from dataclasses import replace

import pytest
import torch

from noisereel import checkpoint
from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import rebuild
from noisereel.recipes.words import learn_words, text_encoder
from noisereel.text.small import SmallTextEncoder
from noisereel.trainer import Trainer

PROMPTS = ["a red circle moves left", "a blue circle moves left", "a red square stands still"]


@pytest.fixture
def donor(tmp_path):
    """A model folder with an encoder of another shape than any size would make, and of few words."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = SmallTextEncoder(vocabulary_size=300, dim=20, depth=1, heads=2)
    encoder.learn_words(PROMPTS)
    checkpoint.save(tmp_path / "donor", {"text_encoder": encoder}, {"recipe": "vdm"})
    return tmp_path / "donor"


def call_with(donor):
    return {"recipe": "vdm", "arguments": {"size": "tiny", "text": str(donor), "images": 0, "clips": 16}}


def test_a_taken_encoder_says_what_its_donor_said_and_does_not_learn(donor, tmp_path):
    plan = rebuild(call_with(donor))
    said = text_encoder(str(donor), 128)(PROMPTS).pooled
    (phase,) = plan.phases()
    before = [parameter.clone() for parameter in plan.system.first.net.parameters()]
    list(Trainer(replace(phase, held_out=None, prompts=()), tmp_path / "run").run())
    after = plan.system.first
    assert torch.equal(after.text(PROMPTS).pooled, said)
    assert after.text.unknown_words("a mauve circle") == ["mauve"]  # the words of its donor, not those of the new data
    assert any(not torch.equal(a, b) for a, b in zip(before, after.net.parameters(), strict=True))


def test_a_checkpoint_needs_its_donor_no_more(donor, tmp_path):
    call = call_with(donor)
    plan = rebuild(call)
    for parameter in plan.system.first.net.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(0))
    made = TextToVideo(system=plan.system, call=call)
    made.save_pretrained(tmp_path / "model")
    frames = made(PROMPTS[0], generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="pt").frames
    shutil.rmtree(donor)
    again = TextToVideo.from_pretrained(tmp_path / "model")
    assert again.call["arguments"]["text"] == str(donor)  # whence it came is still known
    same = again(PROMPTS[0], generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="pt").frames
    assert torch.equal(frames, same)
    again.save_pretrained(tmp_path / "copy")
    assert TextToVideo.from_pretrained(tmp_path / "copy").system.first.text.dim == 20


def test_networks_without_numbers_are_built_around_it(donor):
    with torch.device("meta"):
        stage = rebuild(call_with(donor)).system.first
    assert {parameter.device.type for part in stage.parts().values() for parameter in part.parameters()} == {"meta"}


def test_only_a_new_encoder_learns_words(donor):
    new, taken = text_encoder("", 32), text_encoder(str(donor), 32)
    for encoder in (new, taken):
        learn_words(encoder, lambda: ["some mauve words"])
    assert "mauve" in new.vocabulary.words
    assert "mauve" not in taken.vocabulary.words


def test_a_model_that_is_not_there_or_has_no_encoder_of_ours_is_named(donor, tmp_path):
    with pytest.raises(ValueError, match="no model at 'nowhere'"):
        text_encoder("nowhere", 32)
    checkpoint.save(tmp_path / "other", {"unet": torch.nn.Linear(2, 2)}, {"recipe": "vdm"})
    with pytest.raises(ValueError, match="no text encoder that was trained here"):
        text_encoder(str(tmp_path / "other"), 32)
