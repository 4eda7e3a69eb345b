"""A job as the video object of OpenAI's API, with our own fields beside theirs."""

from __future__ import annotations

from typing import Any

from noisereel.serve.store import Job


def described(job: Job, share: float, expires: float | None) -> dict[str, Any]:
    """The object; a cancelled job has failed with the code ``cancelled``, for the API knows four states."""
    settings = job.settings
    made = job.result or {}  # of a cascade larger and longer than what its first stage was asked for
    height, width = made.get("height", settings["height"]), made.get("width", settings["width"])
    length = made.get("frames", settings["extend"] or settings["frames"])
    progress = 100 if job.state == "completed" else min(99, int(100 * share)) if job.state == "in_progress" else 0
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": job.state,
        "progress": progress,
        "created_at": int(job.created),
        "started_at": _whole(job.started),
        "completed_at": _whole(job.ended) if job.state == "completed" else None,
        "expires_at": _whole(expires),
        "size": f"{width}x{height}",
        "seconds": f"{round(length / settings['fps'], 3):g}",
        "prompt": settings["prompt"],
        "remixed_from_video_id": settings.get("remixed_from"),
        "error": job.error,
        "queue_position": None,
        "eta_seconds": None,
        "kind": settings["kind"],
        "seed": settings["seed"],
        "num_inference_steps": settings["steps"],
        "guidance_scale": settings["guidance"],
        "negative_prompt": settings["negative"],
        "num_frames": length,
        "fps": settings["fps"],
        "scale": settings["scale"],
        "expired": job.expired,
    }


def _whole(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
