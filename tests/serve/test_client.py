"""OpenAI's own client, unchanged, against a running server."""

from pathlib import Path

import pytest

from noisereel.data.reader import probe
from noisereel.data.writer import read_metadata

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PROMPT, OTHER = "a red circle moves to the left", "a blue square stands still on a green ground"


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none is asked for", max_retries=0)


def test_create_poll_download_delete(client, tmp_path: Path) -> None:
    video = client.videos.create_and_poll(prompt=PROMPT, model="tiny", poll_interval_ms=50)
    assert isinstance(video, openai.types.Video)
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.size, video.model, video.prompt) == ("16x16", "tiny", PROMPT)
    assert video.created_at <= video.completed_at < video.expires_at
    assert float(video.seconds) == 1.0  # 4 frames at 4 a second
    client.videos.download_content(video.id).write_to_file(tmp_path / "video.mp4")
    assert probe(tmp_path / "video.mp4").frames == 4
    assert read_metadata(tmp_path / "video.mp4")["prompt"] == PROMPT
    client.videos.download_content(video.id, variant="thumbnail").write_to_file(tmp_path / "thumbnail.webp")
    assert probe(tmp_path / "thumbnail.webp").frames == 1
    client.videos.download_content(video.id, variant="spritesheet").write_to_file(tmp_path / "sheet.png")
    assert probe(tmp_path / "sheet.png").width == 4 * 16
    gone = client.videos.delete(video.id)
    assert (gone.id, gone.deleted, gone.object) == (video.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError, match="no video with this id"):
        client.videos.retrieve(video.id)


def test_seconds_are_made_by_going_on(client) -> None:
    video = client.videos.create_and_poll(prompt=PROMPT, seconds="4", poll_interval_ms=50)
    assert (video.status, video.seconds, video.num_frames) == ("completed", "4", 16)


def test_pages_of_the_list(client) -> None:
    made = [client.videos.create(prompt=PROMPT, extra_body={"seed": seed}).id for seed in range(5)]
    ours = [video.id for video in client.videos.list(limit=2) if video.id in made]  # the client turns the pages
    assert ours == made[::-1]
    page = client.videos.list(limit=2, after=made[3])
    assert [video.id for video in page.data] == [made[2], made[1]]
    assert page.has_more
    assert [video.id for video in client.videos.list(order="asc") if video.id in made] == made


def test_an_image_and_an_extension(client, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "first.png")
    with (tmp_path / "first.png").open("rb") as file:
        video = client.videos.create(prompt=PROMPT, input_reference=file)
    video = client.videos.poll(video.id, poll_interval_ms=50)
    assert (video.status, video.kind) == ("completed", "image")
    client.videos.download_content(video.id).write_to_file(tmp_path / "video.mp4")
    with (tmp_path / "video.mp4").open("rb") as file:
        longer = client.videos.extend(prompt=PROMPT, seconds="1", video=file)
    longer = client.videos.poll(longer.id, poll_interval_ms=50)
    assert (longer.status, longer.kind, longer.num_frames, longer.seconds) == ("completed", "extend", 8, "2")


def test_a_remix_keeps_everything_but_the_prompt(client) -> None:
    video = client.videos.create_and_poll(prompt=PROMPT, extra_body={"seed": 7, "num_inference_steps": 2}, poll_interval_ms=50)
    other = client.videos.remix(video.id, prompt=OTHER)
    assert (other.remixed_from_video_id, other.prompt, other.seed) == (video.id, OTHER, 7)
    assert other.num_inference_steps == 2


def test_mistakes_are_the_clients_exceptions(client) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt=PROMPT, size="1280x720")
    assert caught.value.param == "size"
    assert "16x16" in caught.value.message
    with pytest.raises(openai.NotFoundError, match="there is tiny"):
        client.videos.create(prompt=PROMPT, model="sora-2")
    with pytest.raises(openai.BadRequestError, match="no parameter 'sedd'"):
        client.videos.create(prompt=PROMPT, extra_body={"sedd": 1})


def test_what_is_null_or_empty_is_left_out(client, server) -> None:
    fields = dict.fromkeys(
        ("seed", "size", "seconds", "fps", "scale", "kind", "negative_prompt", "guidance_scale", "num_frames")
    )
    assert server.submit(**fields)["num_frames"] == 4
    answer = server.http.post("/v1/videos", data={"prompt": PROMPT, **dict.fromkeys(fields, "")})
    assert answer.json()["num_frames"] == 4


def test_models(client) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.frames, model.height, model.steps) == ("tiny", 4, 16, 3)
    assert client.models.retrieve("tiny").guidance == 2.0
