"""The diffusers-shaped face of a system: open a checkpoint by name, call it with a prompt, get frames."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from einops import rearrange, repeat
from PIL import Image, ImageOps
from torch import Generator, Tensor

from noisereel import __version__, adapters, checkpoint
from noisereel.diffusion.guidance import cfg
from noisereel.pretrained.families import Foreign, open_foreign, write_foreign
from noisereel.pretrained.places import locate as locate
from noisereel.pretrained.places import shipped as shipped
from noisereel.recipes.plan import as_distilled, complete, rebuild, reopened
from noisereel.system import System, spread
from noisereel.text.ruler import Ruler, too_long
from noisereel.text.silent import Silent
from noisereel.types import Known, Rng, Video

Layout = Literal["noisereel", "diffusers"]
OutputType = Literal["pil", "np", "pt", "latent"]


@dataclass(frozen=True, kw_only=True)
class VideoOutput:
    """Finished videos, indexed by prompt: lists of PIL images, or an array ``b t h w c`` or tensor ``b t c h w`` in [0, 1]."""

    frames: Any


@dataclass(kw_only=True, eq=False)
class TextToVideo:
    """A system that takes prompts.

    >>> pipe = TextToVideo.from_pretrained("default")
    >>> frames = pipe("a red circle moves to the left").frames[0]
    """

    system: System
    call: dict[str, Any]  # the recipe call that rebuilds the system, or the family of someone else's
    card: str = ""
    about: dict[str, Any] = field(default_factory=dict)  # what training recorded: clips seen, numbers
    distilled: dict[str, int] = field(default_factory=dict)  # the stages that learned to take few steps, and how many
    foreign: Foreign | None = None  # where someone else's checkpoint was opened
    folder: Path | None = None  # where one of ours was

    @classmethod
    def from_pretrained(cls, name: str | Path = "default", *, torch_dtype: torch.dtype = torch.float32) -> TextToVideo:
        """Open a checkpoint, ours or one of diffusers (see ``noisereel.pretrained.families``).

        Args:
            name: a folder, the name of a shipped model (``"default"``), or a name on the Hugging Face hub.
            torch_dtype: what the weights are held in.

        Raises:
            ValueError: nothing is there, or what is there cannot be opened; one line says what was found and what would do.
        """
        folder = locate(name)
        index = checkpoint.read_index(folder)
        card = folder / "README.md"
        facts: dict[str, Any] = dict(
            card=card.read_text(encoding="utf-8") if card.exists() else "", about=index.get("about", {})
        )
        if "recipe" not in index:
            foreign = open_foreign(folder, torch_dtype)
            call = {"recipe": index["_class_name"], "arguments": {"guidance": foreign.guidance}}
            return cls(system=foreign.system, call=call, foreign=foreign, **facts)
        call = complete({"recipe": index["recipe"], "arguments": index.get("arguments", {})})
        system = reopened(folder)
        for part in system.parts().values():
            part.eval().requires_grad_(False).to(torch_dtype)
        return cls(system=system, call=call, distilled=index.get("distilled", {}), folder=folder, **facts)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None, layout: Layout | None = None) -> None:
        """Write the checkpoint, whole or not at all: ``model_index.json``, a folder for each part, the model card.

        Args:
            folder: a new one, an empty one, or one whose checkpoint is to be replaced.
            dtype: what the weights are stored in; as they are held if None.
            layout: ``"noisereel"`` for our own models, ``"diffusers"`` for those opened from there, which diffusers can open
                again; each has its own by default.

        Raises:
            ValueError: a layout that cannot hold the model.
        """
        own: Layout = "diffusers" if self.foreign else "noisereel"
        if layout is not None and layout != own:
            raise ValueError(f"a {self.call['recipe']} model can be written in the layout {own!r}, not {layout!r}")
        if self.foreign:
            write_foreign(self.foreign, Path(folder), dtype, card=self.card)
            return
        index = {"_class_name": "TextToVideo", "_noisereel_version": __version__, **self.call, "about": self.about}
        if self.distilled:
            index["distilled"] = self.distilled
        checkpoint.save(Path(folder), self.system.parts(), index, dtype=dtype, card=self.card)

    def load_lora(self, path: str | Path, weight: float = 1.0) -> None:
        """Put the adapters of a file on the networks they were trained for, at this weight; 0 is the model as it was.

        Raises:
            ValueError: no such file, or adapters of another model; or a foreign model, whose layers have other names here.
        """
        if self.foreign:
            raise ValueError(f"adapters are for models that were trained here, not for a {self.call['recipe']}")
        adapters.load(Path(path).expanduser(), self.networks(), weight=weight)

    def fuse_lora(self) -> None:
        """Add the adapters to the weights, so that they cost nothing more; ``save_pretrained`` then writes them along."""
        for net in self.networks().values():
            adapters.fuse(net)

    def networks(self) -> dict[str, torch.nn.Module]:
        """The parts that denoise, by name."""
        nets = {id(stage.net) for stage in self.system.stages.values()}
        return {name: part for name, part in self.system.parts().items() if id(part) in nets}

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload the checkpoint to the Hugging Face hub and return its address."""
        import tempfile

        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as temporary:
            self.save_pretrained(Path(temporary) / "model")
            api = HfApi()
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=Path(temporary) / "model")
        return str(address)

    def to(self, device: torch.device | str) -> TextToVideo:
        """Move every part; noise is still drawn on the CPU, so a seed means the same on every device."""
        for part in self.system.parts().values():
            part.to(device)
        return self

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: Generator | Sequence[Generator] | None = None,
        image: Image.Image | None = None,
        latents: Video | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[TextToVideo, int, float, dict[str, Any]], Any] | None = None,
        max_sequence_length: int | None = None,
    ) -> VideoOutput | tuple[Any]:
        """Videos for one prompt or a list; arguments as in diffusers' text-to-video pipelines.

        ``guidance_scale`` 1 is no guidance. ``image`` is the first frame, resized to the video's size. A list of generators
        gives each video its own; a single one is that of a single video, and of several it draws their seeds. A video depends
        on its own generator and on nothing else in the call.
        For its steps one by one, see ``System.sample``.

        Raises:
            ValueError: an empty prompt, one with more tokens than the model reads (or than ``max_sequence_length``), an illegal
                size, lists of different lengths, or a generator that is not on the CPU.
        """
        if output_type not in get_args(OutputType):
            raise ValueError(f"output_type {output_type!r} is unknown; use {', '.join(get_args(OutputType))}")
        if image is None and self.system.first.needs_video:
            raise ValueError("this model animates an image: give one, image=PIL.Image.open(...)")
        prompts = repeated(prompt, num_videos_per_prompt)
        negative = None if negative_prompt is None else matched(negative_prompt, prompts, num_videos_per_prompt)
        self.check_lengths([*prompts, *(negative or [])], max_sequence_length)
        shape = self.shape(num_frames, height, width)
        moments = self.tuned(num_inference_steps, guidance_scale).sample(
            prompts,
            seeded(generator, len(prompts)),
            negative=negative,
            shape=shape,
            noise=latents,
            known=None if image is None else animated(image, shape, len(prompts), self.system.first.device),
        )
        last = None
        for last in moments:
            if callback_on_step_end is not None:
                callback_on_step_end(self, last.step.index, last.step.t, {"latents": last.step.x})
        assert last is not None
        assert last.video is not None
        output = last.step.x if output_type == "latent" else converted(last.video, output_type)
        return VideoOutput(frames=output) if return_dict else (output,)

    def tuned(self, steps: int | None = None, guidance: float | None = None) -> System:
        """The system with another number of steps or guidance scale, where given; what they mean to a stage, its recipe says.

        Raises:
            ValueError: fewer than one step, or guidance that is not finite.
        """
        asked: dict[str, Any] = {
            name: value for name, value in dict(steps=steps, guidance=guidance).items() if value is not None
        }
        if not asked:
            return self.system
        if steps is not None and steps < 1:
            raise ValueError(f"sampling takes at least 1 step, not {steps}")
        if guidance is not None and not np.isfinite(guidance):
            raise ValueError(f"the guidance scale must be a finite number, not {guidance}; 1 means no guidance")
        if self.foreign:
            changes = {"steps": steps, "guide": guidance if guidance is None else cfg(guidance)}
            return self.system.with_options(**{name: value for name, value in changes.items() if value is not None})
        if self.fixed:
            counts = "/".join(str(count) for count in dict.fromkeys(self.distilled.values()))
            raise ValueError(f"this model was distilled to {counts} steps, its guidance among them: it takes no others")
        with torch.device("meta"):  # how the stages of such a call are sampled; not their weights
            meant = rebuild({**self.call, "arguments": self.call["arguments"] | asked}, self.folder).system
        return as_distilled(self.system.sampled_like(meant), self.distilled)

    @property
    def fixed(self) -> bool:
        """Whether it learned to take few steps and takes no others, nor another guidance."""
        return self.distilled.keys() >= self.system.stages.keys()

    def guidance(self, asked: float | None = None) -> float | None:
        """The guidance scale that is used: the one asked for, or the recipe's; None where the recipe names none."""
        return asked if asked is not None else self.call["arguments"].get("guidance")

    def shape(self, frames: int | None = None, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """Frames, height and width of a video to make; the model's own where not given.

        Raises:
            ValueError: more frames than the model makes at once, or a size it cannot make; says which it can.
        """
        own = self.system.first.shape
        frames, height, width = (
            mine if asked is None else asked for asked, mine in zip((frames, height, width), own, strict=True)
        )
        if frames > own[0]:
            raise ValueError(
                f"this model makes {own[0]} frames at once, not {frames}; --extend {frames} (System.extend) goes on from them"
            )
        self.system.first.latent_shape((frames, height, width))
        return frames, height, width

    def check_lengths(self, prompts: Sequence[str], limit: int | None = None) -> None:
        """Refuse prompts that would not be read to their end.

        Raises:
            ValueError: more tokens than ``limit``, or than the text encoder reads; says how many there are.
        """
        encoder: Any = self.system.first.text
        problems = (too_long(encoder, prompt, limit) for prompt in prompts if hasattr(encoder, "length"))
        if problem := next(filter(None, problems), None):
            raise ValueError(problem)

    @property
    def ruler(self) -> Ruler | None:
        """What tells the length of prompts without the model, where anything does."""
        return getattr(self.system.first.text, "ruler", None)

    @property
    def summary(self) -> str:
        """The first paragraph of prose of the model card."""
        body = self.card.split("\n---\n", 1)[1] if self.card.startswith("---\n") and "\n---\n" in self.card else self.card
        paragraphs = [" ".join(block.split()) for block in body.split("\n\n")]
        return next((text for text in paragraphs if text and not text.startswith(("#", "!", "|", "<"))), "")

    @property
    def hears(self) -> bool:
        """Whether captions mean anything to it."""
        return not isinstance(self.system.first.text, Silent)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that the model never saw in training."""
        encoder = self.system.first.text
        return encoder.unknown_words(prompt) if hasattr(encoder, "unknown_words") else []

    def known_words(self) -> list[str]:
        """Words the model saw in training; empty for a text encoder that came trained."""
        encoder = self.system.first.text
        return sorted(encoder.vocabulary.words) if hasattr(encoder, "vocabulary") else []


def repeated(prompt: str | Sequence[str], copies: int) -> list[str]:
    """Each prompt ``copies`` times, checked.

    Raises:
        ValueError: no prompt, an empty one, fewer than one copy.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts or any(not text.strip() for text in prompts):
        raise ValueError("the prompt is empty; say what the video should show, such as 'a red circle moves to the left'")
    if copies < 1:
        raise ValueError(f"at least 1 video for each prompt, not {copies}")
    return [text for text in prompts for _ in range(copies)]


def matched(negative: str | Sequence[str], prompts: Sequence[str], copies: int) -> list[str]:
    """One negative prompt for each video."""
    texts = [negative] * (len(prompts) // copies) if isinstance(negative, str) else list(negative)
    if len(texts) * copies != len(prompts):
        raise ValueError(f"{len(prompts) // copies} prompts but {len(texts)} negative prompts; give one, or one for each")
    return [text for text in texts for _ in range(copies)]


def seeded(generator: Generator | Sequence[Generator] | None, count: int) -> Rng:
    """One CPU generator for each video.

    Raises:
        ValueError: a list of another length, or a generator of another device.
    """
    given = [generator] if isinstance(generator, Generator) else generator or []
    if any(one.device.type != "cpu" for one in given):
        raise ValueError("noise is drawn on the CPU, so that a seed means the same everywhere: use torch.Generator() as it is")
    if generator is None:
        return [Generator().manual_seed(secrets.randbits(48)) for _ in range(count)]
    if isinstance(generator, Generator):
        if count == 1:
            return [generator]
        seeds = torch.randint(2**48, (count,), generator=generator)
        return [Generator().manual_seed(int(seed)) for seed in seeds]
    if len(generator) != count:
        raise ValueError(f"{count} videos but {len(generator)} generators; give one, or one for each video")
    return list(generator)


def animated(image: Image.Image, shape: tuple[int, int, int], count: int, device: torch.device) -> Known:
    """An image, cropped at its centre to the videos' shape, as the first frame of ``count`` videos."""
    frames, height, width = shape
    fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted, dtype=np.float32)
    first = repeat(torch.from_numpy(pixels / 127.5 - 1).to(device), "h w c -> b c 1 h w", b=count)
    return spread(first, frames, every=1)


def converted(video: Video, output_type: OutputType) -> Any:
    """A video in [-1, 1] as what the caller asked for."""
    unit: Tensor = rearrange(video.float().cpu() / 2 + 0.5, "b c t h w -> b t c h w")
    if output_type == "pt":
        return unit
    array = rearrange(unit, "b t c h w -> b t h w c").numpy()
    if output_type == "np":
        return array
    return [[Image.fromarray(frame) for frame in clip] for clip in (array * 255).round().astype(np.uint8)]
