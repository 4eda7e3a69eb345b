"""The same clips in every layout are the same clips, and the layout that was taken is named."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from noisereel.data.collection import Collection
from noisereel.data.layouts.detect import listed
from noisereel.data.reader import read_clip
from noisereel.data.want import Want
from noisereel.data.writer import write

WANT = Want(frames=4, height=12, width=16, fps=8.0)
CLIPS = {"dawn.mp4": "the sun rises", "noon.webm": 'light, "white" light', "night.mp4": None}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(CLIPS):
        ramp = torch.linspace(-0.9, 0.2, 6)[None, :, None, None] + 0.3 * number
        write(ramp.expand(3, 6, 12, 16), folder / name, fps=8.0)
    return folder


def sidecars(clips: Path, place: Path) -> Path:
    shutil.copytree(clips, place)
    for name, caption in CLIPS.items():
        if caption:
            (place / name).with_suffix(".txt").write_text(f"{caption}\n")
    return place


def jsonl(clips: Path, place: Path, file: str = "file_name", text: str = "text") -> Path:
    shutil.copytree(clips, place)
    rows = [json.dumps({file: name, text: caption, "fps": 8}) for name, caption in CLIPS.items()]
    (place / "metadata.jsonl").write_text("\n".join(rows) + "\n\n")
    return place


def aliases(clips: Path, place: Path) -> Path:
    return jsonl(clips, place, "video_path", "prompt")


def json_list(clips: Path, place: Path) -> Path:
    shutil.copytree(clips, place)
    rows = [{"path": name, "cap": [caption] if caption else []} for name, caption in CLIPS.items()]
    (place / "videos2caption.json").write_text(json.dumps(rows))
    return place


def table(clips: Path, place: Path) -> Path:
    shutil.copytree(clips, place)
    with (place / "captions.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("path", "caption"), *((name, caption or "") for name, caption in CLIPS.items())])
    return place


def parquet(clips: Path, place: Path) -> Path:
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    shutil.copytree(clips, place)
    rows = {"file_name": list(CLIPS), "text": list(CLIPS.values()), "embedding": [[1.0]] * 3}
    pyarrow.parquet.write_table(pyarrow.table(rows), place / "metadata.parquet")
    return place


def split(clips: Path, place: Path) -> Path:
    jsonl(clips, place / "train")
    jsonl(clips, place / "test")
    return place


def two_lists(clips: Path, place: Path) -> Path:
    shutil.copytree(clips, place / "videos")
    (place / "videos.txt").write_text("\n".join(f"videos/{name}" for name in CLIPS))
    (place / "prompts.txt").write_text("\n".join(caption or " " for caption in CLIPS.values()) + "\n.\n")
    return place


def tar(clips: Path, place: Path) -> Path:
    path = place.with_suffix(".tar")
    with tarfile.open(path, "w") as out:
        for number, (name, caption) in enumerate(CLIPS.items()):
            key = f"{number:04d}"
            out.add(clips / name, f"./{key}{Path(name).suffix}")
            for ending, text in ((".json", json.dumps({"text": caption})), (".cls", "7")):
                info = tarfile.TarInfo(f"./{key}{ending}")
                info.size = len(text.encode())
                out.addfile(info, io.BytesIO(text.encode()))
    return path


def indexed_tar(clips: Path, place: Path) -> Path:
    place.mkdir()
    path = tar(clips, place / "shard-000000")
    with tarfile.open(path) as held:
        samples: dict[str, list[str]] = {}
        for info in held:
            ending = info.name.split(".")[-1]
            samples.setdefault(info.name.split(".")[1], []).append(f"{ending} {info.offset_data} {info.size} {info.name}")
    path.with_suffix(".idx").write_text("\n".join([f"v1.2 {len(samples)}", *map(" ".join, samples.values())]))
    return place


def huggingface(clips: Path, place: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    rows = [{"path": name, "bytes": (clips / name).read_bytes()} for name in CLIPS]
    video = datasets.Features(video=datasets.Video(decode=False), text=datasets.Value("string"))
    made = datasets.Dataset.from_dict({"video": rows, "text": list(CLIPS.values())}, features=video)
    made.cast_column("video", datasets.Video()).save_to_disk(str(place))
    return place


def decoded(clips: Path) -> np.ndarray:
    videos = [read_clip(clips / name, height=12, width=16) for name in CLIPS]
    return ((torch.stack(videos) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()


def npz(clips: Path, place: Path) -> Path:
    np.savez_compressed(
        path := place.with_suffix(".npz"), video=decoded(clips), captions=[c or "" for c in CLIPS.values()], fps=8
    )
    return path


def npy(clips: Path, place: Path) -> Path:
    np.save(path := place.with_suffix(".npy"), decoded(clips).transpose(0, 4, 1, 2, 3).astype(np.float64) / 127.5 - 1)
    path.with_suffix(".json").write_text(json.dumps({"captions": list(CLIPS.values()), "fps": 8, "range": [-1, 1]}))
    return path


def npy_files(clips: Path, place: Path) -> Path:
    place.mkdir()
    for video, (name, caption) in zip(decoded(clips), CLIPS.items(), strict=True):
        np.save((place / name).with_suffix(".npy"), video)
        (place / name).with_suffix(".txt").write_text(caption or "")
    return place


def zarr(clips: Path, place: Path) -> Path:
    library = pytest.importorskip("zarr")
    group = library.open_group(str(place), mode="w")
    array = group.create_array("video", shape=(3, 6, 12, 16, 3), chunks=(1, 4, 12, 16, 3), dtype="uint8")
    array[:] = decoded(clips)
    array.attrs["fps"] = 8.0
    group.attrs["captions"] = [caption or "" for caption in CLIPS.values()]
    return place


LAYOUTS: dict[Callable[[Path, Path], Path], str] = {
    sidecars: "captions in .txt files",
    jsonl: "metadata.jsonl",
    aliases: "metadata.jsonl",
    json_list: "videos2caption.json",
    table: "captions.csv",
    parquet: "metadata.parquet",
    split: "train/metadata.jsonl",
    two_lists: "videos.txt and prompts.txt",
    tar: "WebDataset, 1 tar",
    indexed_tar: "1 tar, 1 with an index",
    huggingface: "Hugging Face dataset, column video, captions from text",
    npz: "uint8, axes n t h w c, guessed by the shape, 0 is black and 255 white, 8 fps",
    npy: "float64, axes n c t h w, guessed by the shape, -1 is black and 1 white, 8 fps",
    npy_files: "captions in .txt files",
    zarr: "uint8, axes n t h w c, guessed by the shape, 0 is black and 255 white, 8 fps",
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_clips(layout: Callable[[Path, Path], Path], clips: Path, tmp_path: Path) -> None:
    place = layout(clips, tmp_path / "place")
    assert LAYOUTS[layout] in listed(place).layout
    source = Collection(place=place, want=WANT)
    assert len(source) == 3
    by_caption = {clip.caption: clip for clip in (source[index] for index in range(3))}
    assert set(by_caption) == set(CLIPS.values())
    for item, _ in source.clips:
        whole = read_clip(item.footage, height=12, width=16)
        name = next(name for name, caption in CLIPS.items() if caption == item.caption)
        assert torch.allclose(whole, read_clip(clips / name, height=12, width=16), atol=1e-6)
    assert all(clip.video.shape == (3, 4, 12, 16) and clip.fps == 8.0 for clip in by_caption.values())


def test_a_place_that_cannot_be_read_is_named_with_what_would_do(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("x")
    (tmp_path / "a.tar.gz").write_text("x")
    for place, says in {
        tmp_path / "nowhere": "there is no folder or file .*nowhere; a dataset of the hub is written hf:",
        tmp_path / "a.docx": r"ends in \.docx, which is not read; these are: a folder, \.tar, \.jsonl",
        tmp_path / "a.tar.gz": "is compressed.*unpack it once",
    }.items():
        with pytest.raises(ValueError, match=says):
            listed(place)


def test_a_dataset_of_the_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach it\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ValueError, match=r"dataset owner/name cannot be opened: Couldn't reach it; a folder"):
        listed("hf:owner/name")
