import json
import os
import re
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from noisereel.worlds.sprite_people import BUILDS, COLOURS, WARDROBE, Person, layers
from noisereel.worlds.sprite_sheets import Checkout, Layer
from noisereel.worlds.sprites import ACTIONS, PLAIN, TERRAIN, Scene, Sprites, scene
from noisereel.worlds.sprites_words import _PARTICIPLES, BRIEF, IMAGE, VIDEO, spoken

REAL = os.environ.get("NOISEREEL_DATA")
MOVING = re.compile(rf"\b({'|'.join([*_PARTICIPLES, *_PARTICIPLES.values(), 'video', 'follow'])})\b")
FRAMES = {"Idle": 3, "Walk": 8, "Run": 8, "Jump": 6, "Climb": 6, "Combat 1h - Idle": 2}
FRAMES |= {"Combat 1h - Slash": 7, "Combat 1h - Halfslash": 6, "Combat 1h - Backslash": 12}
# Where each slot lies in a cell of a checkout made for tests: left, top, right, bottom; each a flat colour of its base ramp.
BOXES = {
    "body": (22, 14, 42, 62),
    "head": (24, 14, 40, 30),
    "hair": (24, 12, 40, 20),
    "helmet": (24, 12, 40, 22),
    "beard": (28, 26, 36, 30),
    "brows": (28, 20, 36, 21),
    "glasses": (26, 22, 38, 25),
    "top": (22, 30, 42, 44),
    "over": (22, 30, 27, 44),
    "bow tie": (30, 30, 34, 33),
    "legs": (22, 44, 42, 56),
    "socks": (22, 50, 42, 58),
    "feet": (22, 56, 42, 62),
    "wings": (20, 60, 50, 80),
    "sword": (20, 60, 50, 66),
}
FRONT = ("beard", "brows", "glasses", "bow tie")


def ramps() -> dict[str, dict[str, list[dict[str, float]]]]:
    """Every ramp that is named, in colours that occur nowhere else."""
    names = {material: set(kinds.values()) for material, kinds in COLOURS.values() if material}
    names["Clothing"] |= {"Dove"} | set().union(
        *(kinds.values() for material, kinds in COLOURS.values() if material == "Clothing")
    )
    names |= {"Skin": {"Porcelain", "Ivory", "Peach", "Tan", "Tawny", "Honey", "Bronze", "Brown", "Coffee"}}
    names["Metal"] |= {"Steel"}
    colours = {}
    for i, (material, kinds) in enumerate(sorted(names.items())):
        for j, name in enumerate(sorted(kinds)):
            colours.setdefault(material, {})[name] = [
                {"r": (60 * i + 8 * k) / 255, "g": 5 * j / 255, "b": 40 * k / 255} for k in range(6)
            ]
    return colours


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the public layout: flat boxes for drawings, and the real one's traps."""
    root = tmp_path_factory.mktemp("LPC")
    palette = ramps()
    guides = root / "Characters" / "_ Guides & Palettes"
    (guides / "Color Palettes").mkdir(parents=True)
    (guides / "Color Palettes" / "Ramps.json").write_text(json.dumps(palette))
    base = {"Skin": "Ivory", "Hair": "Blonde", "Clothing": "Dove", "Metal": "Steel"}
    folders: dict[str, tuple[str, str | None, bool]] = {}
    for who in BUILDS:
        for slot, kinds in WARDROBE.items():
            for kind, item in kinds.items():
                wears = {"top": ("T-shirt", "red"), "legs": ("trousers", "red"), slot: (kind, next(iter(COLOURS[slot][1])))}
                for layer in layers(Person(who=who, skin="Ivory", wears=wears), sword=True):
                    fights = item.fights if layer.name == slot else True
                    folders.setdefault(layer.folder, (layer.name, layer.material, fights))
    for folder, (slot, material, fights) in folders.items():
        colour = tuple(round(255 * palette[material][base[material]][1][k]) for k in "rgb") if material else (200, 210, 220)
        for animation, frames in FRAMES.items():
            only = {
                "sword": animation.startswith("Combat"),
                "wings": animation in ("Idle", "Walk"),
                "brows": animation != "Climb",
            }
            if only.get(slot, fights or not animation.startswith("Combat")):
                path = root / "Characters" / folder / f"{animation}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(sheet(slot, colour, animation, frames))
    (root / "Terrain").mkdir()
    for season in ("summer", "autumn", "winter"):
        noise = np.random.default_rng(0).integers(150, 255, (256, 256, 3), dtype=np.uint8) // 50 * 50
        Image.fromarray(noise).save(root / "Terrain" / f"terrain_{season}.png")
    return root


@cache
def sheet(slot: str, colour: tuple[int, ...], animation: str, frames: int) -> bytes:
    cell, rows = 128 if slot in ("wings", "sword") else 64, 1 if animation == "Climb" else 4
    pixels = np.zeros((rows * cell, frames * cell, 4), np.uint8)
    left, top, right, bottom = BOXES[slot]
    for row in range(1 if slot in FRONT else 0, rows):  # not drawn from behind
        for frame in range(frames):
            pixels[row * cell + top : row * cell + bottom, frame * cell + left : frame * cell + right] = (*colour, 255)
    pixels[::7, ::5][pixels[::7, ::5, 3] == 0] = (255, 0, 255, 3)  # stray pixels that nobody can see
    data = BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    return data.getvalue()


@pytest.fixture(
    params=["fake", pytest.param("real", marks=pytest.mark.skipif(REAL is None, reason="NOISEREEL_DATA is not set"))]
)
def root(request: pytest.FixtureRequest, fake: Path) -> Path:
    return fake if request.param == "fake" else Path(str(REAL)) / "lpc" / "revised"


def pixels(video: torch.Tensor) -> np.ndarray:
    return ((video + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()


def ramp(root: Path, material: str, name: str) -> set[int]:
    """A ramp's colours as red, green and blue in one number."""
    path = root / "Characters" / "_ Guides & Palettes" / "Color Palettes" / "Ramps.json"
    colours = [[round(255 * colour[k]) for k in "rgb"] for colour in json.loads(path.read_text())[material][name]]
    return {(red << 16) + (green << 8) + blue for red, green, blue in colours}


def seek(count: int, **wanted: object) -> list[tuple[int, Scene]]:
    """The first scenes whose fields are as wanted."""
    found = []
    for index in range(4000):
        truth = scene(index, "train")
        if all(getattr(truth, key) in (value if isinstance(value, tuple) else (value,)) for key, value in wanted.items()):
            found.append((index, truth))
        if len(found) == count:
            return found
    raise AssertionError(f"too few scenes with {wanted}")


def test_a_clip_is_a_function_of_its_number(root: Path) -> None:
    one, two = Sprites(root=root), Sprites(root=root)
    assert one[11].caption == two[11].caption
    assert torch.equal(one[11].video, two[11].video)
    assert one[11].video.shape == (3, 16, 64, 64)
    assert len({one[i].caption for i in range(12)}) == 12


def test_what_a_caption_may_name_is_on_the_screen(root: Path) -> None:
    source = Sprites(root=root)
    named = set()
    for index in range(30):
        truth = scene(index, "train")
        shown = set(np.unique(pixels(source[index].video) @ np.array([1 << 16, 1 << 8, 1])).tolist())
        for slot in source.visible(truth):
            kind, colour = truth.person.wears[slot]
            material, colours = COLOURS[slot]
            assert material is None or ramp(root, material, colours[colour]) & shown, (index, slot, kind, colour)
            named.add(slot)
    assert {"hair", "helmet", "top", "legs", "feet", "beard"} <= named


def test_what_cannot_be_seen_is_not_named(root: Path) -> None:
    source = Sprites(root=root, frames=1)
    for index, truth in seek(15, direction="up"):
        assert not {"beard", "glasses", "bow tie"} & set(source.visible(truth))
        assert not re.search(
            r"beard|moustache|glasses|eyepatch|bow tie|old|elderly", str(source[index].caption).replace("gold", "")
        )
    for index, truth in seek(15, action=("slash", "strike", "slash twice", "guard")):
        assert not re.search(r"boots|shorts|overalls|dungarees|socks|wings", str(source[index].caption))
        assert "legs" in source.visible(truth)
    for index in range(80):
        truth = scene(index, "train")
        if "helmet" in truth.person.wears:
            assert "hair" not in truth.person.wears
        assert "top" in source.visible(truth) or "over" in source.visible(truth)


def test_captions_of_each_pool(root: Path) -> None:
    images = Sprites(root=root, pool="captioned_image")
    for index in range(40):
        clip = images[index]
        assert clip.video.shape[1] == 1
        assert not MOVING.search(str(clip.caption)), clip.caption
    assert all(MOVING.search(str(Sprites(root=root, frames=1)[index].caption)) for index in range(15))
    assert Sprites(root=root, pool="unlabelled_video")[3].caption is None
    assert all(len(language.templates) >= 5 for language in (VIDEO, BRIEF, IMAGE))


def test_captions_read_well(root: Path) -> None:
    captions = [str(Sprites(root=root, frames=1)[index].caption) for index in range(120)]
    assert not [caption for caption in captions if re.search(r",,|, ,| ,|\ba a\b|\ba [aeio]|  |[ ,]$|\{", caption)]
    words = [len(caption.split()) for caption in captions]
    assert min(words) <= 5
    assert max(words) >= 28
    assert len({word for caption in captions for word in re.findall(r"\w+", caption)}) > 100


def test_strangers_are_strangers() -> None:
    pools = ("captioned_video", "captioned_image", "unlabelled_video")
    people = {pool: {scene(index, "train", pool).person.identity for index in range(80)} for pool in pools}
    assert not people["unlabelled_video"] & (people["captioned_video"] | people["captioned_image"])


def test_splits_share_no_combination() -> None:
    def combination(truth: Scene) -> tuple[object, ...]:
        return (truth.person.who, truth.person.wears["top"], truth.action, truth.direction, truth.ground)

    splits = [{combination(scene(index, split)) for index in range(100)} for split in ("train", "held_out")]
    assert not splits[0] & splits[1]


def test_clothes_are_not_the_colour_of_the_ground_or_of_skin() -> None:
    for index in range(150):
        truth = scene(index, "train")
        assert truth.ground not in {colour for _, colour in truth.person.wears.values()}
    assert not {"Tan", "Brown", "Peach", "Ivory", "Honey", "Bronze", "Tawny", "Beige"} & set(COLOURS["top"][1].values())


def test_people_move_the_way_they_are_said_to() -> None:
    times = np.arange(16) / 16
    for direction, (axis, sign) in {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}.items():
        for _, truth in seek(4, action=("walk", "run"), direction=direction):
            path = truth.place(times)
            assert (np.diff(path[axis]) * sign > 0).all()
            assert (np.diff(path[1 - axis]) == 0).all()
    for _, truth in seek(4, action=("stand", "slash")):
        assert (np.diff(truth.place(times)) == 0).all()
    for _, truth in seek(4, action="jump"):
        x, y = truth.place(times)
        assert (x == x[0]).all()
        assert y[0] == y[-1] == y.max()
        assert y.min() == pytest.approx(y[0] - 15, abs=0.5)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0])
def test_people_stay_in_sight_however_long_a_scene_lasts(seconds: float) -> None:
    times = np.linspace(0, seconds, 20)
    for index in range(60):
        truth = scene(index, "train", seconds=seconds)
        if not truth.follows:
            x, y = np.abs(truth.place(times)).max(axis=1)
            assert (x <= 36, y <= 22) == (True, True)


def test_the_picture_moves_with_the_truth(fake: Path) -> None:
    source, columns = Sprites(root=fake), torch.arange(64.0)
    for follows, moves in ((False, True), (True, False)):
        for index, truth in seek(3, action=("walk", "run"), direction="left", follows=follows):
            video = source[index].video
            figure = torch.from_numpy((pixels(video) < 100).any(-1)).float()  # the test's ground is lighter than that, or plain
            if truth.ground in TERRAIN:
                middle = (figure.sum(1) * columns).sum(-1) / figure.sum((1, 2))
                assert bool((middle.diff() < 0).any()) == moves
                corner = video[:, :, :8, :]
                scrolls = [torch.equal(corner[:, i, :, :-8], corner[:, i + 1, :, :-8]) for i in range(15)]
                assert all(scrolls) == moves, "the ground scrolls exactly when the camera follows"


def test_layers_cover_in_the_right_order(fake: Path) -> None:
    checkout = Checkout(fake)
    wears = {"top": ("T-shirt", "red"), "legs": ("overalls", "blue"), "feet": ("boots", "brown"), "socks": ("socks", "white")}
    order = [layer.name for layer in layers(Person(who="man", skin="Ivory", wears=wears), sword=True)]
    assert order.index("body") < order.index("socks") < order.index("top") < order.index("legs") < order.index("feet")
    assert order[0] == order[-1] == "sword"
    trousers = wears | {"legs": ("trousers", "blue"), "feet": ("shoes", "brown")}
    order = [layer.name for layer in layers(Person(who="man", skin="Ivory", wears=trousers), sword=False)]
    assert order.index("feet") < order.index("legs") < order.index("top") < order.index("head") < order.index("brows")
    figure = checkout.compose(layers(Person(who="man", skin="Ivory", wears=wears), sword=False), "Walk", "down")
    assert figure.shown["feet"] == 20 * 6, "boots are over the trousers' and socks' ends"
    assert figure.shown.get("socks", 0) == 0, "overalls and boots leave nothing of the socks"
    assert figure.shown["body"] == 2 * 2 * 16, "its two edges beside the narrower head; the rest is dressed"


def test_large_cells_are_centred_on_small_ones(fake: Path) -> None:
    person = Person(who="man", skin="Ivory", wears={"top": ("T-shirt", "red"), "legs": ("trousers", "blue")})
    figure = Checkout(fake).compose(layers(person, sword=True), "Combat 1h - Slash", "left")
    assert figure.index.shape == (7, 128, 128)
    rows, columns = np.nonzero(figure.index[0])
    assert (rows.max(), columns.max()) == (32 + 61, 32 + 41), "the body's box, moved by half the difference"
    assert (rows.min(), columns.min()) == (32 + 14, 20), "the sword's left end"


def test_an_arm_passes_in_front_of_the_head(fake: Path, tmp_path: Path) -> None:
    plain = [
        Layer(name="body", folder="Body/Body 01 - Feminine, Thin"),
        Layer(name="head", folder="Head/Head 01 - Feminine", on_head=True),
    ]
    for path in ("Body/Body 01 - Feminine, Thin", "Head/Head 01 - Feminine", "_ Guides & Palettes"):
        (tmp_path / "Characters" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Characters" / path).symlink_to(fake / "Characters" / path)
    (tmp_path / "Terrain").symlink_to(fake / "Terrain")
    before = Checkout(tmp_path).compose(plain, "Run", "down").shown["head"]
    cutouts = fake / "Characters" / "_ Guides & Palettes" / "Head Cutouts"
    cutouts.mkdir()
    mask = np.zeros((256, 512, 4), np.uint8)
    mask[128 + 14 : 128 + 18, 24:40] = 255  # facing down, first drawing: four rows of the head
    Image.fromarray(mask).save(cutouts / "Run.png")
    other = Checkout(tmp_path / "Characters" / "..")  # the same checkout under another name, as sheets are read once
    after = other.compose(plain, "Run", "down").shown["head"]
    assert after == before - 4 * 16 // 8


def test_any_size_and_rate_shows_the_same_scene(root: Path) -> None:
    full = Sprites(root=root)[4].video
    assert torch.equal(full[:, ::2], Sprites(root=root, frames=8, fps=8.0)[4].video)
    assert torch.allclose(Sprites(root=root, height=32, width=32)[4].video, torch.nn.functional.avg_pool2d(full, 2))
    large = Sprites(root=root, height=128, width=128)[4].video
    assert torch.equal(large, full.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert Sprites(root=root, height=32, width=48)[4].video.shape == (3, 16, 32, 48)


def test_facts_of_the_wardrobe_hold(root: Path) -> None:
    for who, (body, _) in BUILDS.items():
        for slot, kinds in WARDROBE.items():
            for kind, item in kinds.items():
                folder = root / "Characters" / item.folder.format(build=body[5:])
                assert (folder / "Walk.png").is_file(), (who, slot, kind)
                assert (folder / "Combat 1h - Backslash.png").is_file() == item.fights, (slot, kind)
    assert all(ACTIONS[name].animation in FRAMES for name in ACTIONS)


def test_words_for_every_action_and_ground() -> None:
    truth = scene(0, "train")
    for action in ACTIONS:
        for direction in ("up",) if action == "climb" else ("up", "down", "left", "right"):
            for ground in (*TERRAIN, *PLAIN):
                rng = np.random.default_rng(0)
                values = spoken(rng, truth.person, {"top"}, action=action, direction=direction, ground=ground, follows=True)
                assert all(values[slot] or slot == "camera" for slot in values)


def test_mistakes_are_named(tmp_path: Path, fake: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"is no checkout of LPC Revised: it lacks \d+ of \d+ things, such as .*Ramps\.json; clone github.com/ElizaWy/LPC",
    ):
        Sprites(root=tmp_path)
    with pytest.raises(ValueError, match="64 times or a part of 64"):
        Sprites(root=fake, height=48, width=48)
    with pytest.raises(ValueError, match="last longer than a scene"):
        Sprites(root=fake, frames=20)
