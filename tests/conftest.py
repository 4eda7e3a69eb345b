"""What tests of several modules share: a tiny model, made once, that has learned words but nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import rebuild
from noisereel.worlds.pools import Pools

CAPTIONS = ("a red circle moves to the left", "a blue square stands still on a green ground", "two small stars fall")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the tests keep for later they keep for themselves."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("NOISEREEL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the smallest VDM: 4 frames of 16x16, three sampling steps."""
    call = {"recipe": "vdm", "arguments": {"size": "tiny", "steps": 3, "guidance": 2.0}}
    system = rebuild(call).system
    system.first.text.learn_words(CAPTIONS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in system.parts()["unet"].parameters():
            if not parameter.any():  # born silent: a network that says nothing would hide every difference
                torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    card = "---\nlibrary_name: noisereel\n---\n\n# Tiny\n\nA model that has learned nothing, for tests.\n"
    TextToVideo(system=system, call=call, card=card, about={"clips": 0}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> TextToVideo:
    """The same, opened; calls do not change it."""
    return TextToVideo.from_pretrained(tiny_folder)


@pytest.fixture
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vocabulary from few captions: thousands take seconds to render."""
    captions = Pools.captions
    monkeypatch.setattr(Pools, "captions", lambda pools, number, **which: captions(pools, 32, **which))
