"""From what somebody asks to the settings of a job, complete and checked against what the model can do."""

from __future__ import annotations

import math
import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from noisereel.serve.config import Config
from noisereel.serve.errors import invalid
from noisereel.serve.facts import Facts, rounds
from noisereel.serve.uploads import Read

Kind = Literal["generate", "image", "extend", "upscale"]
WATCHABLE = 256  # pixels of the shorter side up to which small videos are enlarged, as the command line does
LARGEST = 4  # times the pixels of the model's own frames: beyond, it never learned anything


def _empty_is_none(value: Any) -> Any:
    """A form's field that was left empty."""
    return None if value == "" else value


def optional(kind: Any, **limits: Any) -> Any:
    limited = Annotated[kind, Field(**limits)] if limits else kind
    return Annotated[limited | None, BeforeValidator(_empty_is_none), Field(default=None)]


class VideoRequest(BaseModel):
    """The fields of ``POST /v1/videos``: OpenAI's, then ours."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    prompt: optional(str, min_length=1, max_length=4000)  # type: ignore[valid-type]
    model: optional(str, max_length=200)  # type: ignore[valid-type]
    seconds: optional(float, gt=0, le=600)  # type: ignore[valid-type]
    size: optional(str, pattern=r"^[0-9]{1,5}x[0-9]{1,5}$")  # type: ignore[valid-type]
    seed: optional(int, ge=0, lt=2**62)  # type: ignore[valid-type]
    num_inference_steps: optional(int, ge=1)  # type: ignore[valid-type]
    guidance_scale: optional(float, ge=-100, le=100, allow_inf_nan=False)  # type: ignore[valid-type]
    negative_prompt: optional(str, max_length=4000)  # type: ignore[valid-type]
    num_frames: optional(int, ge=1)  # type: ignore[valid-type]
    fps: optional(float, ge=0.1, le=240)  # type: ignore[valid-type]
    scale: optional(int, ge=1, le=32)  # type: ignore[valid-type]
    space: optional(int, ge=1)  # type: ignore[valid-type]
    time: optional(int, ge=1)  # type: ignore[valid-type]
    kind: optional(Kind)  # type: ignore[valid-type]


class Remix(BaseModel):
    """The field of ``POST /v1/videos/{video_id}/remix``."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]


def settings_of(asked: VideoRequest, facts: Facts, config: Config, kind: Kind) -> dict[str, Any]:
    """The settings of a job whose input, if it has one, is still to be read (``with_input``).

    Raises:
        Refused: what the model cannot do; says what it can.
    """
    if kind not in facts.can:
        raise invalid(f"The model {facts.id} cannot do {kind}; it can do {', '.join(facts.can)}.", "kind")
    common = _common(asked, facts, config, kind)
    if kind == "upscale":
        return {**common, **_enlarging(asked, facts)}
    for name in ("space", "time"):
        if getattr(asked, name):
            raise invalid(f"{name} goes with kind=upscale; scale repeats the pixels of what is made.", name)
    if asked.prompt is None:
        raise invalid("The parameter prompt is missing.", "prompt", "missing_required_parameter")
    if asked.seconds is not None and asked.num_frames is not None:
        raise invalid("seconds and num_frames each say how long the video is: give one of them.", "num_frames")
    height, width = _size(asked, facts)
    fps = asked.fps or facts.fps
    length = asked.num_frames or (facts.legal_frames(asked.seconds * facts.fps) if asked.seconds else facts.frames)
    if length > config.longest:
        raise invalid(f"{length} frames are too many: this server makes {config.longest} at most.", "num_frames")
    longer = length > facts.frames
    if longer and not facts.keep:
        raise invalid(f"The model {facts.id} makes {facts.frames} frames at most, not {length}.", "num_frames")
    frames = facts.frames if longer else length
    if problem := facts.fits(frames, height, width):
        raise invalid(f"{problem}.", "size" if "num_frames" not in problem else "num_frames")
    return {
        **common,
        "guidance": facts.guidance if asked.guidance_scale is None else asked.guidance_scale,
        "frames": frames,
        "extend": length if longer else None,
        "height": height,
        "width": width,
        "fps": fps,
        "scale": asked.scale or max(1, round(WATCHABLE / min(height, width))),
        "rounds": rounds(facts, length),
    }


def _common(asked: VideoRequest, facts: Facts, config: Config, kind: Kind) -> dict[str, Any]:
    """What the settings of every kind hold."""
    for name, own in (("num_inference_steps", facts.steps), ("guidance_scale", facts.guidance)):
        if facts.fixed and getattr(asked, name) not in (None, own):
            raise invalid(
                f"The model {facts.id} was distilled to {facts.steps} steps: it takes no other {name} than {own}.", name
            )
    steps = asked.num_inference_steps or facts.steps
    if steps > config.most_steps:
        raise invalid(f"{steps} steps are too many: this server takes {config.most_steps} at most.", "num_inference_steps")
    return {
        "model": facts.id,
        "prompt": asked.prompt or "",
        "seed": secrets.randbits(31) if asked.seed is None else asked.seed,
        "kind": kind,
        "steps": steps,
        "negative": asked.negative_prompt,
        "input": None,
    }


def _enlarging(asked: VideoRequest, facts: Facts) -> dict[str, Any]:
    """Of a job whose size and length are those of its clip, so many times over."""
    for name in ("size", "seconds", "num_frames", "fps", "scale", "guidance_scale", "negative_prompt"):
        if getattr(asked, name) is not None:
            raise invalid(f"upscale keeps what its clip has, times space and time: leave {name} out.", name)
    first_time, first_space = facts.enlarges[0]
    named = asked.time or asked.space
    time, space = (asked.time or 1, asked.space or 1) if named else (first_time, first_space)
    if (time, space) not in facts.enlarges:
        there = "; ".join(f"time {time}, space {space}" for time, space in facts.enlarges)
        raise invalid(f"The model {facts.id} cannot enlarge by time {time}, space {space}; it can by {there}.", "space")
    return {"guidance": None, "extend": None, "scale": 1, "rounds": 1, "time": time, "space": space}


def with_input(settings: dict[str, Any], facts: Facts, id: str, read: Read, *, added: float | None = None) -> dict[str, Any]:
    """The settings of a job that begins with what was uploaded for it; ``added`` seconds go on after a clip.

    Raises:
        Refused: a clip that is longer than what is to become of it, or has too few frames.
    """
    settings = {**settings, "input": id, "input_sha256": read.sha256}
    frames = read.frames
    if settings["kind"] == "upscale":
        time, space = settings["time"], settings["space"]
        if frames == 1 and time > 1:
            raise invalid("Between the frames of a single one there is nothing to make: leave time out.", "time")
        larger = {"frames": frames * time, "height": read.height * space, "width": read.width * space, "fps": read.fps * time}
        return {**settings, **larger}
    if settings["kind"] != "extend":
        return settings
    if added is not None:
        length = frames + round(added * facts.fps)
    else:
        length = settings["extend"] or frames + facts.frames - facts.keep
    if length <= frames:
        raise invalid(f"The clip has {frames} frames already: num_frames takes more, not {length}.", "num_frames")
    if frames < facts.keep:
        raise invalid(f"The clip has {frames} frames, and this model goes on from {facts.keep} or more.", "input_reference")
    more = math.ceil((length - frames) / (facts.frames - facts.keep))
    return {**settings, "frames": facts.frames, "extend": length, "rounds": more}


def _size(asked: VideoRequest, facts: Facts) -> tuple[int, int]:
    """Height and width."""
    if not asked.size:
        return facts.height, facts.width
    width, height = map(int, asked.size.split("x"))
    if height * width > LARGEST * facts.height * facts.width:
        own = f"{facts.width}x{facts.height}"
        raise invalid(
            f"{asked.size} is too large: this model makes {own}, and up to {LARGEST} times its pixels; scale enlarges it.",
            "size",
        )
    return height, width
