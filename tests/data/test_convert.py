import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisereel.data import convert as module
from noisereel.data.collection import Collection
from noisereel.data.convert import LAYOUTS, convert
from noisereel.data.decode import Excerpt
from noisereel.data.inspect import inspect
from noisereel.data.reader import read_clip
from noisereel.data.want import Want
from noisereel.data.writer import write

WANT = Want(frames=4, height=8, width=8, fps=8.0)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    for number, name in enumerate(("one.mp4", "two.webm", "deep/three.gif")):
        (folder / name).parent.mkdir(exist_ok=True)
        ramp = torch.linspace(-0.9, 0.2, 6)[None, :, None, None] + 0.3 * number
        write(ramp.expand(3, 6, 8, 8), folder / name, fps=8.0)
        (folder / name).with_suffix(".txt").write_text(f"clip «{number}»")
    (folder / "damaged.mp4").write_bytes((folder / "one.mp4").read_bytes()[:300])
    return folder


def clips(place: Path) -> dict[str | None, torch.Tensor]:
    source = Collection(place=place, want=WANT)
    wanted = dict(frames=WANT.frames, height=WANT.height, width=WANT.width, fps=WANT.fps)
    return {item.caption: read_clip(item.footage, **wanted) for item, _ in source.clips}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_converted_clips_are_the_same(layout: str, original: Path, tmp_path: Path) -> None:
    first = clips(original)
    result = convert(original, tmp_path / f"out.{layout}", layout, WANT)
    assert result["clips"] == 3
    (left,) = result["unused"]
    assert left["name"] == "damaged.mp4"
    again = Path(result["out"])
    if layout != "npz":  # which holds what is decoded, and so the beginnings alone
        again = Path(convert(again, tmp_path / "again", "folder", WANT)["out"])
        second = clips(again)
        assert all(torch.equal(second[caption], video) for caption, video in first.items())
        names = {json.loads(line)["source"] for line in (again / "metadata.jsonl").read_text().splitlines()}
        assert len(names) == 3
    else:
        assert set(clips(again)) == set(first)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({f"out.{layout}", again.name}), "nothing half-made"


def test_arrays_are_kept_as_arrays(tmp_path: Path) -> None:
    field = np.linspace(-1, 1, 6 * 8 * 8 * 2, dtype=np.float32).reshape(6, 8, 8, 2)
    np.savez(tmp_path / "field.npz", video=field, axes="thwc", range=[-1, 1], captions=["a wave"])
    want = Want(frames=6, height=8, width=8, fps=8.0, channels=2)
    convert(tmp_path / "field.npz", tmp_path / "out", "folder", want)
    (source,) = [Collection(place=tmp_path / "out", want=want)]
    assert source[0].caption == "a wave"
    assert torch.allclose(source[0].video, torch.from_numpy(field).permute(3, 0, 1, 2), atol=1e-6)
    with pytest.raises(ValueError, match="is an array, which a WebDataset of videos cannot hold: use --to folder"):
        convert(tmp_path / "field.npz", tmp_path / "tars", "webdataset", want)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["field.npz", "out"]


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_a_full_disk_leaves_nothing(layout: str, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [1]

    def until_full(*arguments: Any) -> None:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        shutil._copied(*arguments)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "_copied", shutil.copyfileobj, raising=False)
    monkeypatch.setattr(module.shutil, "copyfileobj", until_full)
    with pytest.raises(OSError, match="No space left"):
        convert(original, tmp_path / "out", layout, WANT)
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_is_named(original: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "new.part").mkdir()
    with pytest.raises(ValueError, match="out is there already: choose another name"):
        convert(original, tmp_path / "out", "folder", WANT)
    with pytest.raises(ValueError, match=r"new\.part is there already; an earlier convert was killed"):
        convert(original, tmp_path / "new", "folder", WANT)
    with pytest.raises(ValueError, match=r"should end in \.npz"):
        convert(original, tmp_path / "clips", "npz", WANT)
    with pytest.raises(ValueError, match="holds nothing to convert: it is empty"):
        convert(tmp_path / "out", tmp_path / "more", "folder", WANT)


def test_scenes_of_a_film_are_no_files_to_copy(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = module.listed(original)
    scene = replace(listing.items[0], footage=Excerpt(footage=listing.items[0].footage, start=0.0, end=0.5))
    monkeypatch.setattr(module, "listed", lambda place: replace(listing, items=[*listing.items[1:], scene]))
    for layout in ("folder", "webdataset"):
        with pytest.raises(ValueError, match=r"is a scene of a film.*use --to npz"):
            convert(original, tmp_path / "out", layout, WANT)
    assert not any(tmp_path.iterdir())


def test_inspection_accounts_for_every_file(original: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(original, place)
    shutil.copy(place / "one.mp4", place / "copy.mp4")
    write(torch.zeros(3, 1, 10, 20), place / "still.png", fps=1.0)
    (place / "lonely.txt").write_text("a caption")
    facts = inspect(place, WANT)
    assert json.loads(json.dumps(facts)) == facts
    counts = ("videos", "images", "damaged", "captioned", "not_captioned", "used", "not_used")
    assert [facts[name] for name in counts] == [4, 1, 1, 3, 3, 4, 3]
    assert facts["sizes"] == {"8x8": 4, "10x20": 1}
    assert facts["frame_rates"] == {"8": 4}
    assert facts["seconds"] == "0.75 to 0.75, half under 0.75, 3.0 in all"
    assert facts["duplicates"] == [{"name": "one.mp4", "reason": "its bytes are those of copy.mp4"}]
    assert {Path(one["name"]).name for one in facts["unused"]} == {"damaged.mp4", "still.png", "lonely.txt"}
    assert inspect(place, WANT) == facts, "what is known from before is the same"
    write(torch.zeros(3, 6, 8, 8), place / "one.mp4", fps=8.0)
    assert inspect(place, WANT)["duplicates"] == [], "a file that has changed is looked at anew"
