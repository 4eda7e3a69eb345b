"""The diffusers-shaped face: every argument, the promise about seeds, and checkpoints there and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from noisereel.pipeline import TextToVideo, VideoOutput, locate, shipped

PROMPT = "a red circle moves to the left"
OTHER = "a blue square stands still"


def seed(number: int) -> Generator:
    return Generator().manual_seed(number)


def frames(pipe: TextToVideo, prompt: Any = PROMPT, **options: Any) -> np.ndarray:
    return pipe(prompt, **{"generator": seed(7), "output_type": "np", **options}).frames


def test_one_prompt_gives_one_clip_of_the_models_own_shape(tiny: TextToVideo) -> None:
    made = frames(tiny)
    assert made.shape == (1, 4, 16, 16, 3)
    assert made.min() >= 0
    assert made.max() <= 1
    assert made.std() > 0.01


def test_same_seed_same_frames_bit_for_bit(tiny: TextToVideo) -> None:
    assert np.array_equal(frames(tiny), frames(tiny))
    assert not np.allclose(frames(tiny), frames(tiny, generator=seed(8)), atol=0.01)


def test_the_prompt_matters(tiny: TextToVideo) -> None:
    assert not np.allclose(frames(tiny), frames(tiny, OTHER), atol=1 / 255)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a generator of another device")
def test_a_generator_of_another_device_is_refused_in_words(tiny: TextToVideo) -> None:
    with pytest.raises(ValueError, match="on the CPU"):
        frames(tiny, generator=Generator("cuda"))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_video_does_not_depend_on_what_is_made_beside_it(tiny: TextToVideo, position: int) -> None:
    prompts, seeds = [OTHER] * 3, [seed(1), seed(2), seed(3)]
    prompts[position], seeds[position] = PROMPT, seed(7)
    together = frames(tiny, prompts, generator=seeds)
    np.testing.assert_allclose(together[position], frames(tiny, generator=[seed(7)])[0], atol=1 / 255)


def test_one_generator_for_many_gives_each_a_seed_of_its_own(tiny: TextToVideo) -> None:
    made = frames(tiny, [PROMPT, PROMPT])
    assert not np.allclose(made[0], made[1], atol=0.01)
    assert np.array_equal(made, frames(tiny, [PROMPT, PROMPT]))


def test_several_videos_for_each_prompt_come_prompt_by_prompt(tiny: TextToVideo) -> None:
    seeds = [1, 2, 3, 4]
    made = frames(tiny, [PROMPT, OTHER], num_videos_per_prompt=2, generator=[seed(number) for number in seeds])
    alone = [frames(tiny, [PROMPT, OTHER][i // 2], generator=seed(number))[0] for i, number in enumerate(seeds)]
    np.testing.assert_allclose(made, np.stack(alone), atol=1 / 255)


def test_latents_go_in_and_come_out(tiny: TextToVideo) -> None:
    given = torch.randn(1, *tiny.system.first.latent_shape((4, 16, 16)), generator=seed(1))
    with_noise = frames(tiny, latents=given)
    assert not np.allclose(with_noise, frames(tiny), atol=0.01)
    latents = tiny(PROMPT, latents=given, generator=seed(7), output_type="latent").frames
    decoded = tiny.system.first.decode(latents) / 2 + 0.5
    np.testing.assert_allclose(decoded.movedim(1, -1).numpy(), with_noise, atol=1e-6)


def test_output_types_hold_the_same_pixels(tiny: TextToVideo) -> None:
    array = frames(tiny)
    tensor = frames(tiny, output_type="pt")
    assert tensor.shape == (1, 4, 3, 16, 16)
    assert np.array_equal(tensor.movedim(2, -1).numpy(), array)
    images = frames(tiny, output_type="pil")
    assert isinstance(images[0][0], Image.Image)
    assert np.array_equal(np.stack(images[0]), (array[0] * 255).round())


def test_size_frames_steps_and_guidance(tiny: TextToVideo) -> None:
    assert frames(tiny, height=24, width=32, num_frames=1).shape == (1, 1, 24, 32, 3)
    assert not np.allclose(frames(tiny, num_inference_steps=2), frames(tiny), atol=1 / 255)
    assert not np.allclose(frames(tiny, guidance_scale=9.0), frames(tiny), atol=1 / 255)
    assert np.array_equal(frames(tiny, guidance_scale=2.0), frames(tiny)), "the recipe's own scale is 2"


def test_a_negative_prompt_is_the_other_side_of_guidance(tiny: TextToVideo) -> None:
    assert not np.allclose(frames(tiny, negative_prompt=OTHER), frames(tiny), atol=1 / 255)
    unguided = frames(tiny, guidance_scale=1.0)
    assert np.array_equal(frames(tiny, guidance_scale=1.0, negative_prompt=OTHER), unguided)
    # Leaning away from the prompt itself leaves the prompt.
    np.testing.assert_allclose(frames(tiny, negative_prompt=PROMPT, guidance_scale=5.0), unguided, atol=1e-4)
    each = frames(tiny, [PROMPT, PROMPT], negative_prompt=[OTHER, PROMPT], generator=[seed(7), seed(7)])
    np.testing.assert_allclose(each[0], frames(tiny, negative_prompt=OTHER)[0], atol=1 / 255)


def test_the_callback_sees_every_step(tiny: TextToVideo) -> None:
    seen: list[tuple[int, float, torch.Size]] = []

    def look(pipe: TextToVideo, step: int, time: float, tensors: dict[str, torch.Tensor]) -> None:
        assert pipe is tiny
        seen.append((step, time, tensors["latents"].shape))

    frames(tiny, callback_on_step_end=look)
    assert [step for step, *_ in seen] == [0, 1, 2]
    assert [time for _, time, _ in seen] == sorted((time for _, time, _ in seen), reverse=True)
    assert {shape for *_, shape in seen} == {(1, *tiny.system.first.latent_shape((4, 16, 16)))}


def test_return_dict(tiny: TextToVideo) -> None:
    assert isinstance(tiny(PROMPT), VideoOutput)
    (images,) = tiny(PROMPT, return_dict=False)
    assert len(images[0]) == 4


def test_words_that_training_never_held(tiny: TextToVideo) -> None:
    assert tiny.unknown_words("A red dog moves to the MOON!") == ["dog", "moon"]
    assert {"red", "circle"} <= set(tiny.known_words())


def test_saved_and_opened_again_it_makes_the_same_frames(tiny: TextToVideo, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "copy")
    again = TextToVideo.from_pretrained(tmp_path / "copy")
    assert np.array_equal(frames(again), frames(tiny))
    assert (again.call, again.card, again.about) == (tiny.call, tiny.card, tiny.about)
    assert again.known_words() == tiny.known_words()


def test_half_precision_storage_changes_little(tiny: TextToVideo, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "half", dtype=torch.float16)
    sizes = [sum(file.stat().st_size for file in folder.rglob("*.safetensors")) for folder in (tmp_path / "half",)]
    assert sizes[0] < 2.2 * sum(p.numel() for part in tiny.system.parts().values() for p in part.parameters())
    np.testing.assert_allclose(frames(TextToVideo.from_pretrained(tmp_path / "half")), frames(tiny), atol=0.02)


def test_weights_in_bfloat16_sample_too(tiny_folder: Path) -> None:
    pipe = TextToVideo.from_pretrained(tiny_folder, torch_dtype=torch.bfloat16)
    made = frames(pipe)
    assert np.isfinite(made).all()
    assert np.array_equal(made, frames(pipe))


def test_push_to_hub_uploads_a_checkpoint(tiny: TextToVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: dict[str, Any] = {}

    class Hub:
        def create_repo(self, repo_id: str, **options: Any) -> str:
            uploaded.update(repo=repo_id, **options)
            return f"https://hub.example/{repo_id}"

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> None:
            uploaded["files"] = {path.relative_to(folder_path).as_posix() for path in folder_path.rglob("*") if path.is_file()}

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert tiny.push_to_hub("someone/tiny", private=True) == "https://hub.example/someone/tiny"
    assert uploaded["repo"] == "someone/tiny"
    assert uploaded["private"] is True
    assert {"model_index.json", "README.md", "unet/diffusion_pytorch_model.safetensors"} <= uploaded["files"]


def test_a_hub_name_is_downloaded(tiny: TextToVideo, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(name: str, **_: Any) -> str:
        asked.append(name)
        return str(tiny_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert np.array_equal(frames(TextToVideo.from_pretrained("someone/tiny")), frames(tiny))
    assert asked == ["someone/tiny"]


def test_a_hub_that_does_not_answer_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **_: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ValueError, match=r"'someone/tiny'.*ConnectionError"):
        locate("someone/tiny")


@pytest.mark.parametrize("name", ["", "nothing-here", "./nothing", "/nothing/here", "a/b/c", "../x/y"])
def test_names_of_nothing_are_refused_without_asking_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ValueError, match=r"no model at|checkpoint|model_index"):
        TextToVideo.from_pretrained(name)


def test_shipped_models_are_found_by_name() -> None:
    for name in shipped():
        assert (locate(name) / "model_index.json").exists()


@pytest.mark.parametrize(
    ("prompt", "options", "words"),
    [
        ("", {}, "empty"),
        ([], {}, "empty"),
        ([PROMPT, "  "], {}, "empty"),
        (PROMPT, {"num_videos_per_prompt": 0}, "at least 1"),
        (PROMPT, {"height": 0}, "multiple of"),
        (PROMPT, {"width": 17}, "multiple of"),
        (PROMPT, {"width": 18}, "width 18 .* multiple of 4, such as 16 or 20"),
        (PROMPT, {"num_frames": 0}, "1 or more"),
        (PROMPT, {"num_frames": 5}, "makes 4 frames at once"),
        (PROMPT, {"num_inference_steps": 0}, "at least 1 step"),
        (PROMPT, {"guidance_scale": float("nan")}, "finite"),
        (PROMPT, {"generator": [seed(1), seed(2)]}, "1 videos but 2 generators"),
        (PROMPT, {"negative_prompt": ["a", "b"]}, "2 negative prompts"),
        (PROMPT, {"latents": torch.zeros(1, 3, 4, 16, 16)}, "latents have shape"),
        (PROMPT, {"max_sequence_length": 2}, "the model reads 2"),
        ("circle " * 200, {}, "shorten it"),
    ],
)
def test_mistakes_are_told_in_words(tiny: TextToVideo, prompt: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny(prompt, **options)


def test_an_image_is_the_first_frame(tiny: TextToVideo) -> None:
    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    image = Image.fromarray(np.stack([np.broadcast_to(ramp, (32, 32))] * 3, axis=-1))
    made = frames(tiny, image=image)
    wanted = np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)) / 255
    np.testing.assert_allclose(made[0, 0], wanted, atol=1 / 255)
    assert not np.allclose(made[0, 1], wanted, atol=0.05)
