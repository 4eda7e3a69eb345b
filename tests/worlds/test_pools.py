"""Training data by name: every name opens what it says, and a folder's held-out clips are never trained on."""

import pytest
import torch

from noisereel.data.clips import Unlabelled
from noisereel.data.writer import write
from noisereel.worlds.pools import Pools

SHAPE = (4, 16, 16)


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        video = torch.full((3, 4, 16, 16), number / 6 - 1)
        write(video, tmp_path / f"clip{number:02}.webm", fps=8)
        (tmp_path / f"clip{number:02}.txt").write_text(f"clip number {number}")
    return tmp_path


def test_folder_keeps_every_tenth_clip_from_training(folder):
    pools = Pools.open(str(folder), shape=SHAPE, fps=8.0)
    trained = {pools.video[index].caption for index in range(40)}
    tested = {pools.held_out[index].caption for index in range(40)}
    assert tested == {"clip number 0", "clip number 10"}
    assert trained == {f"clip number {n}" for n in range(12)} - tested
    assert pools.images[0].video.shape == (3, 1, 16, 16)
    assert set(pools.captions(100)) == trained
    assert set(pools.prompts(8)) == tested


def test_frames_of_held_out_videos_are_no_training_images(folder):
    write(torch.zeros(3, 1, 16, 16), folder / "a picture.png", fps=8)  # shifts the numbers of what comes after it
    pools = Pools.open(str(folder), shape=SHAPE, fps=8.0)
    assert {pools.images[index].caption for index in range(11)} == {None, *(f"clip number {n}" for n in range(12) if n % 10)}


def test_folders_without_captions_give_no_prompts(folder):
    for text in folder.glob("*.txt"):
        text.unlink()
    for data in (str(folder), f"{folder} + {folder}"):
        assert Pools.open(data, shape=SHAPE, fps=8.0).prompts(8) == ()


def test_worlds_blend(folder):
    pools = Pools.open(f"shapes-small + {folder}", shape=SHAPE, fps=8.0)
    captions = [pools.video[index].caption for index in range(60)]
    own = sum(caption.startswith("clip number") for caption in captions)
    assert 15 <= own <= 45


def test_parts_are_drawn_as_often_as_they_weigh(folder, tmp_path_factory):
    stills = tmp_path_factory.mktemp("stills")
    for number in range(3):
        write(torch.full((3, 1, 16, 16), number / 3), stills / f"{number}.png", fps=8)
        (stills / f"{number}.txt").write_text(f"still number {number}")
    pools = Pools.open(f"{folder}*3 + shapes-small * 0.5 + {stills}*6.5", shape=SHAPE, fps=8.0)

    def share(source, words, number=150):
        return sum((source[index].caption or "").startswith(words) for index in range(number)) / number

    # The stills give no videos: of those, three weights of three and a half are the folder's.
    assert abs(share(pools.video, "clip number") - 3 / 3.5) < 0.12
    assert abs(share(pools.images, "still number") - 6.5 / 10) < 0.13
    assert abs(share(pools.images, "clip number") - 3 / 10) < 0.13


def test_a_folder_of_images_alone_gives_no_videos(tmp_path):
    write(torch.zeros(3, 1, 16, 16), tmp_path / "a.png", fps=8)
    with pytest.raises(ValueError, match="holds images alone, and there are no videos to train on: join some"):
        Pools.open(str(tmp_path), shape=SHAPE, fps=8.0)


def test_a_folder_with_signs_in_its_name_is_a_folder(folder):
    odd = folder.rename(folder.with_name("C++ * 2"))
    assert Pools.open(str(odd), shape=SHAPE, fps=8.0).prompts(8) == ("clip number 0", "clip number 10")


@pytest.mark.parametrize("data", ["shapes*", "shapes*0", "shapes*-1", "shapes*nan", "shapes + shapes-small*many", "shapes*inf"])
def test_weights_are_numbers_above_0(data):
    with pytest.raises(ValueError, match=r"has no weight after its star: write a number above 0, such as shapes\*3"):
        Pools.open(data, shape=SHAPE, fps=8.0)


def test_seconds_follow_the_shape():
    pools = Pools.open("shapes-small", shape=(8, 32, 32), fps=4.0)
    assert pools.video.seconds == 2.0
    assert pools.held_out.split == "held_out"
    assert pools.images.pool == "captioned_image"


@pytest.mark.parametrize("name", ["imagenet", "sprites", "emoji=", "no/such/folder", ""])
def test_unknown_names_are_refused_with_the_legal_ones(name):
    with pytest.raises(ValueError, match="shapes-small"):
        Pools.open(name, shape=SHAPE, fps=8.0)


def test_unlabelled_videos_have_no_captions_and_show_what_captions_never_name(folder):
    world, files = (Pools.open(data, shape=SHAPE, fps=8.0) for data in ("shapes-small", str(folder)))
    both = Pools.open(f"shapes-small + {folder}", shape=SHAPE, fps=8.0)
    for pools in (world, files, both):
        assert isinstance(pools.unlabelled, Unlabelled)
        assert {pools.unlabelled[index].caption for index in range(30)} == {None}
    assert world.unlabelled.source.pool == "unlabelled_video"
    assert torch.equal(files.unlabelled[3].video, files.video[3].video)  # a folder's are its videos, captions withheld
    assert files.video[3].caption is not None
    assert len(files.unlabelled) == len(files.video)


def test_images_are_kept_for_testing_as_videos_are(folder):
    pools = Pools.open(str(folder), shape=SHAPE, fps=8.0)
    assert {pools.held_out_images[index].caption for index in range(20)} == {"clip number 0", "clip number 10"}
    assert pools.held_out_images[0].video.shape == (3, 1, 16, 16)
    world = Pools.open("shapes-small", shape=SHAPE, fps=8.0).held_out_images
    assert (world.pool, world.split) == ("captioned_image", "held_out")


def test_captions_can_be_those_of_images_alone(folder):
    pools = Pools.open("shapes-small", shape=SHAPE, fps=8.0)
    words = {word for caption in pools.captions(64, videos=False) for word in caption.split()}
    assert "circle" in words
    assert not words & {"moves", "slides", "goes", "grows", "rests"}
    assert "moves" in {word for caption in pools.captions(64) for word in caption.split()}


def test_captions_of_files_are_known_without_decoding_them(folder, monkeypatch):
    both = Pools.open(f"{folder} + {folder}", shape=SHAPE, fps=8.0)
    pools = Pools.open(str(folder), shape=SHAPE, fps=8.0)
    seen = [pools.video[index].caption for index in range(len(pools.video))]

    def decoded(*_, **__):
        raise AssertionError("a clip was decoded for its caption")

    monkeypatch.setattr("noisereel.data.collection.read_clip", decoded)
    assert pools.captions(100)[: len(seen)] == seen
    assert pools.prompts(2)
    assert set(both.captions(50)) <= set(pools.captions(100))
