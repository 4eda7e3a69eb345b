from pathlib import Path

import pytest
import torch

from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import rebuild
from noisereel.recipes.upscaler import upscaler
from noisereel.trainer import Trainer
from noisereel.types import generators
from noisereel.upscale import chosen, upscale


def test_it_is_born_enlarging_and_blending() -> None:
    """Before it has learned anything its answer is its hint."""
    stages = upscaler(size="tiny").system.stages
    clip = torch.rand(3, 6, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    longer = torch.cat(list(upscale(clip.unbind(1), chosen(stages, time=2, space=1))), dim=1)
    assert torch.allclose(longer[:, 1:-1:2], (clip[:, :-1] + clip[:, 1:]) / 2, atol=1e-5)
    assert torch.equal(longer[:, ::2], clip)


def test_it_learns_and_is_opened_again(tmp_path: Path) -> None:
    call = {"recipe": "upscaler", "arguments": {"size": "tiny", "clips": 64}}
    plan = rebuild(call)
    for phase in plan.phases():
        assert phase.data(3).video.shape[1:] == (3, *(4 if phase.name == "time" else 2, 16, 16))
        batch = phase.held_out
        before = phase.target.validate(batch, generators(0, range(len(batch.video))))
        trainer = Trainer(phase, tmp_path / phase.name)
        for _ in trainer.run():
            pass
        trainer.adopt_average()
        after = phase.target.validate(batch, generators(0, range(len(batch.video))))
        assert after["loss@0.9"] < 1.05 * before["loss@0.9"], "a few steps from an enlargement that is a good start"
    TextToVideo(system=plan.system, call=call).save_pretrained(tmp_path / "model")
    opened = TextToVideo.from_pretrained(tmp_path / "model").system.stages
    frames = torch.zeros(3, 5, 6, 6).unbind(1)
    both = [torch.cat(list(upscale(frames, chosen(stages, time=2, space=4))), dim=1) for stages in (plan.system.stages, opened)]
    assert both[0].shape == (3, 10, 24, 24)
    assert torch.equal(*both)


def test_what_enlarges_nothing_is_refused() -> None:
    assert list(upscaler(size="tiny", time=1).system.stages) == ["space"]
    for arguments in (dict(time=1, space=1), dict(time=0)):
        with pytest.raises(ValueError, match="make one of them 2 or more"):
            upscaler(size="tiny", **arguments)
