"""Features learned from captions: each frame goes with the words of its own clip, and they are learned."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from noisereel.codecs.features import FeatureNet
from noisereel.codecs.word_reader import WordReader
from noisereel.trainer import Phase, Trainer
from noisereel.types import Batch, generators, rand

COLOURS = {"red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0)}
SIDES = ("left", "right")


def clip(colour: str, side: str, noise: Tensor) -> Tensor:
    """Two frames of noise whose left or right half has a colour."""
    video = noise.clone()
    half = slice(0, 4) if side == "left" else slice(4, 8)
    video[..., half] = torch.tensor(COLOURS[colour])[:, None, None, None]
    return video


def clips(draw: int) -> Batch:
    kinds = [(colour, side) for colour in COLOURS for side in SIDES]
    noise = rand(generators(draw, range(len(kinds))), 3, 2, 8, 8) - 0.5
    video = torch.stack([clip(*kind, noise[i]) for i, kind in enumerate(kinds)])
    captions = [f"The {side.upper()} is {colour}." for colour, side in kinds]
    return Batch(video=video, captions=captions, fps=torch.full((len(kinds),), 8.0))


def reader() -> WordReader:
    torch.manual_seed(0)
    return WordReader.of(FeatureNet(stages=((8, 8), (16, 16))), [caption for caption in clips(0).captions if caption])


def test_the_commonest_words_are_kept_in_a_fixed_order() -> None:
    captions = ["a red ball", "A blue ball!", "a ball, red"]
    assert WordReader.of(FeatureNet(), captions).words == ("a", "ball", "red", "blue")
    assert WordReader.of(FeatureNet(), reversed(captions), most=3).words == ("a", "ball", "red")
    with pytest.raises(ValueError, match="no word"):
        WordReader.of(FeatureNet(), ["", "!"])


def test_colours_are_learned_from_captions(tmp_path: Path) -> None:
    target = reader()
    phase = Phase(name="features", target=target, data=clips, clips=1800, held_out=clips(10**6), learning_rate=5e-3, ema=300)
    *_, last = Trainer(phase, tmp_path).run()
    assert last.held_out["recall"] > 0.95
    assert last.held_out["precision"] > 0.95
    with pytest.raises(ValueError, match="no prompts"):
        target.preview(["red"], generators(0, [0]))


def test_a_frame_goes_with_the_caption_of_its_own_clip() -> None:
    """Frame j of every sample has the colour j; only the clip of frames 1 and 2 has a caption."""
    target = reader()
    seen: list[Tensor] = []
    target.net.register_forward_hook(lambda net, given, out: seen.append(given[0]))
    video = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(64, 3, 4, 8, 8) / 4
    groups = torch.tensor([0, 1, 1, 2]) + 3 * torch.arange(64)[:, None]
    captions = [None, "red", None] * 64
    batch = Batch(video=video, captions=captions, fps=torch.ones(192), groups=groups)
    logits, labels = target._read(batch, generators(0, range(64)))
    colours = seen[0][:, 0, 0, 0]
    assert set(colours.tolist()) == {0.25, 0.5}
    assert len(colours) == len(logits)
    assert 20 < len(colours) < 44
    assert labels.sum(1).unique().tolist() == [1]
    assert labels[:, target.words.index("red")].all()


def test_a_batch_without_captions_teaches_nothing() -> None:
    """Such as one of unlabelled videos."""
    batch = clips(0)
    bare = Batch(video=batch.video, captions=[None] * 6, fps=batch.fps)
    loss = reader().loss(bare, generators(0, range(6)))
    loss.total.backward()
    assert loss.total == 0
