"""Scenes of footage whose cuts, brightness and motion are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from noisereel.data.check import every_frame
from noisereel.data.decode import Excerpt, Film
from noisereel.data.media import File
from noisereel.data.reader import read_clip
from noisereel.data.scenes import Look, look
from noisereel.data.writer import write

pytest.importorskip("scenedetect", reason="needs noisereel[prepare]")
RATE = 10.0


def ground(colour: tuple[float, float, float], frames: int, pace: float) -> Tensor:
    """A bright square that moves ``pace`` pixels a frame over a plain ground."""
    video = torch.tensor(colour)[:, None, None, None].repeat(1, frames, 64, 96)
    for frame in range(frames):
        left = int(frame * pace) % 64
        video[:, frame, 16:48, left : left + 32] = 1.0
    return video


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """15 frames of blue, 20 of red, 25 of dark green: cuts at 1.5 and 3.5 seconds."""
    parts = [ground((-1, -1, 0.5), 15, 2), ground((0.5, -1, -1), 20, 0), ground((-1, -0.8, -1), 25, 1)]
    return Film(File(write(torch.cat(parts, dim=1), tmp_path_factory.mktemp("film") / "three.mp4", fps=RATE)))


@pytest.fixture(scope="module")
def found(film: Film) -> Look:
    return look(film)


def test_scenes_end_where_the_picture_changes(found: Look) -> None:
    spans = [(scene.start, scene.end) for scene in found.scenes]
    np.testing.assert_allclose(spans, [(0.0, 1.5), (1.5, 3.5), (3.5, 6.0)], atol=1e-3)


def test_scenes_are_measured(found: Look) -> None:
    blue, red, green = found.scenes
    # The square covers a sixth; of the ground, grey is 0.299 red, 0.587 green, 0.114 blue.
    for scene, grey in ((blue, 0.114 * 0.75), (red, 0.299 * 0.75), (green, 0.587 * 0.1)):
        assert scene.brightness == pytest.approx(1 / 6 + 5 / 6 * grey, abs=0.02)
    assert red.motion < 0.0005
    # Two columns of 32 rows change every tenth of a second, by as much as the ground is darker than the square.
    assert blue.motion == pytest.approx(2 * 2 * 32 / (64 * 96) * (1 - 0.114 * 0.75), rel=0.5)
    assert green.motion == pytest.approx(blue.motion / 2, rel=0.5)
    assert {len(scene.prints) for scene in found.scenes} == {8}


def test_without_a_detector_footage_is_one_scene(film: Film) -> None:
    (scene,) = look(film, "none").scenes
    assert (scene.start, scene.end) == (0.0, pytest.approx(6.0, abs=1e-3))


def test_the_digest_is_that_of_the_bytes(film: Film, found: Look) -> None:
    assert found.digest == every_frame(film).digest


def test_damage_is_a_problem_and_no_scene(film: Film, tmp_path: Path) -> None:
    half = tmp_path / "half.mp4"
    content = film.media.open().read()
    half.write_bytes(content[: len(content) // 2])
    looked = look(Film(File(half)))
    assert looked.problem
    assert not looked.scenes


def test_an_image_is_a_still(tmp_path: Path) -> None:
    looked = look(Film(File(write(torch.zeros(3, 1, 16, 16), tmp_path / "grey.png", fps=1))))
    assert looked.still
    assert len(looked.scenes) == 1
    assert looked.scenes[0].motion == 0


def test_an_excerpt_is_the_same_frames_and_nothing_around_them(film: Film) -> None:
    part = Excerpt(footage=film, start=1.5, end=3.5)
    facts = part.probe()
    assert (facts.frames, facts.seconds, facts.fps) == (20, 2.0, RATE)
    whole = read_clip(film)
    assert torch.equal(read_clip(part), whole[:, 15:35])
    assert torch.equal(read_clip(part, frames=5, fps=5.0, start=1.0), whole[:, 25:35:2])
    shown = [(frame.start, frame.end) for frame in part.timed()]
    assert shown[0][0] == pytest.approx(0.0, abs=1e-3)
    assert shown[-1][1] == pytest.approx(2.0, abs=1e-3)
    with pytest.raises(ValueError, match="too short for 25 frames"):
        read_clip(part, frames=25, fps=RATE)


def test_an_excerpt_of_an_excerpt_counts_from_its_beginning(film: Film) -> None:
    inner = Excerpt(footage=Excerpt(footage=film, start=1.5, end=3.5), start=0.5, end=1.0)
    assert torch.equal(read_clip(inner), read_clip(film)[:, 20:25])
