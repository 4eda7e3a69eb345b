"""From a request with what came along to a job in the queue: whatever can be known to fail is refused here."""

from __future__ import annotations

from typing import Any

from noisereel.serve.asking import Kind, VideoRequest, settings_of, with_input
from noisereel.serve.errors import Refused, invalid
from noisereel.serve.facts import Facts
from noisereel.serve.results import FRAMES
from noisereel.serve.server import Server
from noisereel.serve.store import Job, new_id
from noisereel.serve.uploads import Made, Shape, accept, kind_of
from noisereel.text.ruler import too_long


def accepted(
    server: Server, owner: str, asked: VideoRequest, upload: bytes | None, reference: str | None, once: str | None
) -> Job:
    """The job, which is on disk.

    Raises:
        Refused: what no model here can do, a file that cannot be read, or a queue that is full.
    """
    kind = _kind(asked, upload, reference)
    facts = _able(server, asked.model, kind)
    begins: bytes | Made | None = upload
    if reference is not None:
        before = _finished(server, owner, reference)
        begins = Made(server.results.of(reference) / FRAMES, before.settings["fps"])
        if kind == "upscale":
            asked = asked.model_copy(update={"prompt": asked.prompt or before.settings["prompt"] or None})
    settings = settings_of(asked, facts, server.config, kind)
    check_prompts(server, settings)
    id = new_id()
    if begins is None:
        return server.submit(owner, settings, once=once, id=id)
    server.check_room(owner)
    read = accept(begins, server.inputs, id, _shape(server, settings, facts, kind))
    kept = False
    try:
        job = server.submit(owner, with_input(settings, facts, id, read, added=asked.seconds), once=once, id=id)
        kept = job.id == id
        return job
    finally:
        if not kept:  # refused, or a request that was repeated
            server.inputs.remove(id)


def check_prompts(server: Server, settings: dict[str, Any]) -> None:
    """Refuse what the model would not read to its end.

    Raises:
        Refused: says how many tokens there are, and how many are read.
    """
    ruler = server.rulers.get(settings["model"])
    for name, text in (("prompt", settings["prompt"]), ("negative_prompt", settings["negative"])):
        if ruler is not None and text and (problem := too_long(ruler, text)):
            raise invalid(f"{problem[:1].upper()}{problem[1:]}.".replace("The prompt", f"The {name}"), name, "prompt_too_long")


def known_model(server: Server, name: str) -> Facts:
    """The model of that name.

    Raises:
        Refused: there is none, or not yet.
    """
    if name not in server.facts:
        if not server.facts or name in server.opening:
            raise _starting()
        raise Refused(404, f"There is no such model here; there is {', '.join(server.facts)}.", "model_not_found", "model")
    return server.facts[name]


def _able(server: Server, name: str | None, kind: Kind) -> Facts:
    """The model that was named; else the first, or for upscaling, which few can, the first that does."""
    if name is not None:
        return known_model(server, name)
    if not server.facts:
        raise _starting()
    if kind != "upscale":
        return next(iter(server.facts.values()))
    for facts in server.facts.values():
        if kind in facts.can:
            return facts
    if server.opening:
        raise _starting()
    raise invalid("No model of this server enlarges videos; one started with --model upscaler too does.", "kind")


def _starting() -> Refused:
    return Refused(503, "The model is being loaded; try again in a second.", "starting", headers={"Retry-After": "1"})


def _shape(server: Server, settings: dict[str, Any], facts: Facts, kind: Kind) -> Shape:
    """What is made of the file: a frame or clip of the video's size, or for upscaling its own, within limits."""
    if kind != "upscale":
        height, width = settings["height"], settings["width"]
        return Shape(height=height, width=width, fps=facts.fps, one_frame=kind == "image")
    area, time = settings["space"] ** 2, settings["time"]
    most = server.config
    return Shape(pixels=most.enlarged // (area * time), frame_pixels=most.enlarged_frame // area)


def _kind(asked: VideoRequest, upload: bytes | None, reference: str | None) -> Kind:
    """What was asked for, or what the file that was sent suggests."""
    given = upload is not None or reference is not None
    if not given:
        if asked.kind not in (None, "generate"):
            raise invalid(f"{asked.kind} takes a file: send it as input_reference.", "input_reference")
        return "generate"
    if asked.kind == "generate":
        raise invalid("generate takes no file; image, extend and upscale do.", "input_reference")
    if asked.kind:
        return asked.kind
    found = kind_of(upload[:32]) if upload is not None else ("video", "")
    return "image" if found is None or found[0] == "image" else "extend"


def _finished(server: Server, owner: str, id: str) -> Job:
    """The owner's video whose frames are there."""
    job = server.find(owner, id)
    if job.state != "completed" or job.expired:
        raise Refused(409, "The video that is referred to is not there.", "video_not_ready", "video")
    return job
