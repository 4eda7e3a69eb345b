import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from noisereel.worlds.captions import Language
from noisereel.worlds.emoji import GROUNDS, MOTIONS, Emoji, nouns, render, scene
from noisereel.worlds.emoji_words import _PARTICIPLES, BRIEF, IMAGE, NOUNS, VIDEO, spoken

REAL = os.environ.get("NOISEREEL_DATA")
MOVING = re.compile(rf"\b({'|'.join([*_PARTICIPLES, *_PARTICIPLES.values(), 'left', 'right', 'video', 'clip'])})\b")


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose every drawing is a red square of half the size, a quarter of it blue."""
    folder = tmp_path_factory.mktemp("noto") / "png" / "72"
    folder.mkdir(parents=True)
    pixels = np.zeros((72, 72, 4), np.uint8)
    pixels[..., :3] = 255  # hidden: transparent white
    pixels[18:54, 18:54] = (255, 0, 0, 255)
    pixels[18:36, 18:36] = (0, 0, 255, 255)
    Image.fromarray(pixels).save(folder / "one.png")
    data = (folder / "one.png").read_bytes()
    for noun in NOUNS:
        (folder / noun.file).write_bytes(data)
    return folder.parents[1]


@pytest.fixture(
    params=["fake", pytest.param("real", marks=pytest.mark.skipif(REAL is None, reason="NOISEREEL_DATA is not set"))]
)
def root(request: pytest.FixtureRequest, fake: Path) -> Path:
    return fake if request.param == "fake" else Path(str(REAL)) / "emoji"


def square() -> list[torch.Tensor]:
    """An opaque green square that fills the drawing, at one level."""
    drawing = torch.zeros(4, 72, 72, dtype=torch.uint8)
    drawing[1] = drawing[3] = 255
    return [drawing] * 6


def test_a_clip_is_a_function_of_its_number(root: Path) -> None:
    one, two = Emoji(root=root), Emoji(root=root)
    assert one[17].caption == two[17].caption
    assert torch.equal(one[17].video, two[17].video)
    assert one[17].video.shape == (3, 16, 64, 64)
    assert one[17].video.abs().max() <= 1
    assert len({one[i].caption for i in range(20)}) > 15


def test_pools_share_out_the_nouns() -> None:
    seen = {pool: {noun.name for noun in nouns(pool)} for pool in ("captioned_video", "captioned_image", "unlabelled_video")}
    assert not seen["captioned_video"] & seen["unlabelled_video"]
    only_images = seen["captioned_image"] - seen["captioned_video"] - seen["unlabelled_video"]
    assert len(only_images) == len(NOUNS) // 5
    assert {scene(i, "train", "captioned_video").noun.name for i in range(300)} <= seen["captioned_video"]


def test_splits_share_no_combination() -> None:
    splits = [
        {(s.noun.name, s.motion, s.ground) for s in (scene(i, split) for i in range(400))} for split in ("train", "held_out")
    ]
    assert not splits[0] & splits[1]


def test_captions_of_each_pool(root: Path) -> None:
    images = Emoji(root=root, pool="captioned_image")
    for i in range(60):
        clip = images[i]
        assert clip.video.shape[1] == 1
        name = scene(i, "train", "captioned_image").noun.name
        assert not MOVING.search(str(clip.caption).replace(name, ""))
    assert Emoji(root=root, pool="unlabelled_video")[0].caption is None
    assert MOVING.search(str(Emoji(root=root)[0].caption))


def test_grammar() -> None:
    by_name = {noun.name: noun for noun in NOUNS}
    assert len(by_name) == len({noun.code for noun in NOUNS}) == len(NOUNS) > 740

    def said(name: str, language: Language = VIDEO) -> set[str]:
        return set(language.phrasings(spoken(by_name[name], "navy", "left")))

    assert {"grapes slide left on a navy background", "grapes moving to the left, navy blue background"} <= said("grapes")
    assert {"an owl slides left on a navy background", "on a navy background, an owl moves left"} <= said("owl")
    assert {"some bread slides left", "bread sliding left"} <= said("bread", BRIEF)
    assert {"an hourglass slides left", "hourglass sliding left"} <= said("hourglass", BRIEF)
    assert "Mount Fuji slides left" in said("Mount Fuji", BRIEF)
    assert "a unicorn face slides left" in said("unicorn face", BRIEF)
    assert {"a lorry on a navy background", "a truck on a navy background"} <= said("lorry", IMAGE)
    everything = {caption for name in by_name for caption in said(name, BRIEF) | said(name, IMAGE)}
    assert not [caption for caption in everything if re.search(r"\b(a a|an an|a some|some some)\b", caption)]
    assert all(len(language.templates) >= 5 for language in (VIDEO, BRIEF, IMAGE))


def test_the_drawing_is_where_the_truth_says(fake: Path) -> None:
    emoji = Emoji(root=fake)
    axis = (torch.arange(64) + 0.5) / 64
    seen = set()
    for i in range(120):
        truth, video = scene(i, "train"), emoji[i].video
        pose = truth.pose(np.arange(16) / 16)
        ground = torch.tensor(GROUNDS[truth.ground]).float()[:, None, None, None] / 127.5 - 1
        cover = (video - ground).abs().sum(0)
        if truth.motion in ("left", "right", "up", "down", "bounces", "shakes"):
            mask = (cover > 0.3).float()
            x = (mask.sum(1) * axis).sum(-1) / mask.sum((1, 2))
            y = (mask.sum(2) * axis).sum(-1) / mask.sum((1, 2))
            assert np.abs(np.stack([x, y]) - pose[:2]).max() < 0.02, truth.motion
            seen.add(truth.motion)
        area = (cover > 0.3).float().sum((1, 2)).sqrt() / 64
        scale = np.sqrt(np.abs(pose[3] * pose[4]))
        assert np.abs(area.numpy() - 0.5 * truth.size * scale)[np.abs(pose[3]) > 0.5].max() < 0.04, truth.motion
    assert len(seen) == 6


def test_drawings_stay_in_the_picture() -> None:
    for i in range(600):
        truth = scene(i, "train")
        x, y, _, width, height = truth.pose(np.linspace(0, 1, 33))
        for centre, reach in ((x, width), (y, height)):
            outside = np.abs(centre - 0.5) + truth.size / 2 * np.abs(reach) - 0.5
            assert outside.max() < 0.11, truth.motion  # a large one may overshoot alike at both ends


def test_motions_go_the_way_they_are_called() -> None:
    u = np.linspace(0, 1, 17)
    x, y, angle, width, height = range(5)
    pose = {name: motion.law(u, motion.most) for name, motion in MOTIONS.items()}
    assert (np.diff(pose["left"][x]) < 0).all() and (np.diff(pose["right"][x]) > 0).all()  # noqa: PT018
    assert pose["up"][y][-1] < 0 < pose["down"][y][-1]
    assert (np.diff(pose["clockwise"][angle]) > 0).all()
    assert (pose["clockwise"][angle] == -pose["counterclockwise"][angle]).all()
    assert (np.diff(pose["grows"][[width, height]]) > 0).all()
    assert (np.diff(pose["shrinks"][[width, height]]) < 0).all()
    assert pose["flips"][width].min() < -0.9
    assert ((pose["bounces"][y] < 1e-9).sum(), (np.diff(np.sign(np.diff(pose["bounces"][y]))) != 0).sum()) == (3, 3)


def test_a_quarter_turn_is_exact_and_clockwise(fake: Path) -> None:
    emoji = Emoji(root=fake, height=72, width=72)
    truth = scene(0, "train")
    pose = np.array([[0.5, 0.5], [0.5, 0.5], [0, np.pi / 2], [1, 1], [1, 1]])
    drawing = [
        torch.from_numpy(np.asarray(Image.open(emoji.folder / truth.noun.file).convert("RGBa")).copy()).permute(2, 0, 1)
    ] * 6
    upright, turned = render(drawing, pose, 1.0, (0, 0, 0), 72, 72).unbind(1)
    assert torch.allclose(turned, upright.rot90(-1, (1, 2)), atol=1e-4)
    assert upright[2, 20, 20] > 0.99, "blue is at the top left"
    assert turned[2, 20, 52] > 0.99


def test_edges_mix_with_the_ground_only(fake: Path) -> None:
    emoji = Emoji(root=fake)
    for i in range(40):
        truth = scene(i, "train")
        if truth.ground == "black":
            assert emoji[i].video[1].max() < -0.9, "no white from the transparent pixels around red and blue"


def test_minified_drawings_are_antialiased() -> None:
    fine = torch.zeros(4, 72, 72, dtype=torch.uint8)
    fine[3], fine[0, :, ::2] = 255, 255  # stripes of one pixel
    pooled = [
        torch.nn.functional.adaptive_avg_pool2d(fine.float(), level).to(torch.uint8) for level in (72, 51, 36, 25, 18, 12)
    ]
    pose = np.array([[0.5], [0.5], [0.0], [1.0], [1.0]])
    small = render(pooled, pose, 0.5, (0, 0, 0), 48, 48)[0, 0, 16:32, 16:32]
    assert small.std() < 0.15, "24 pixels of 72 columns of stripes are grey"


def test_any_size_and_rate_shows_the_same_scene(root: Path) -> None:
    full, half = Emoji(root=root)[5].video, Emoji(root=root, frames=8, fps=8.0)[5].video
    assert torch.equal(full[:, ::2], half)
    wide = Emoji(root=root, height=32, width=48)[5].video
    assert wide.shape == (3, 16, 32, 48)
    small = Emoji(root=root, height=32, width=32)[5].video
    assert torch.allclose(wide[..., 8:40], small, atol=1e-4)
    assert (small - torch.nn.functional.avg_pool2d(full, 2)).abs().mean() < 0.04


def test_mistakes_are_named(tmp_path: Path, fake: Path) -> None:
    with pytest.raises(
        ValueError, match=r"lacks 7\d\d of 7\d\d drawings, such as emoji_u\w+\.png: clone github.com/googlefonts/noto-emoji"
    ):
        Emoji(root=tmp_path)
    with pytest.raises(ValueError, match="last longer than a scene"):
        Emoji(root=fake, frames=20)


def test_an_opaque_drawing_has_its_size() -> None:
    pose = np.array([[0.25], [0.5], [0.0], [1.0], [1.0]])
    video = render(square(), pose, 0.5, (0, 0, 0), 64, 64)
    assert torch.equal(video[1, 0] > 0.9, torch.nn.functional.pad(torch.ones(32, 32, dtype=torch.bool), (0, 32, 16, 16)))
