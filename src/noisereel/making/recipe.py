"""The recipe of a video: what is kept inside its file, so that it can be made again."""

from __future__ import annotations

from typing import Any

from noisereel import __version__
from noisereel.making.job import Job, Order
from noisereel.pipeline import TextToVideo


def recipe(pipe: TextToVideo, model: str, job: Job, order: Order) -> dict[str, Any]:
    """What all videos of a job share; each adds its prompt and seed."""
    optional = {
        "negative": order.negative,
        "image": order.image and str(order.image),
        "clip": order.clip and str(order.clip),
        "extend": order.extend,
        "between": [str(path) for path in order.between] if order.between else None,
    }
    return {
        "model": model,
        "steps": job.system.first.steps,
        "guidance": pipe.guidance(order.guidance),
        "frames": job.shape[0],
        "height": job.shape[1],
        "width": job.shape[2],
        "fps": job.finish.fps,
        "scale": job.finish.scale,
        **{name: value for name, value in optional.items() if value is not None},
        **({"sheet": True} if job.finish.sheet else {}),
        **({"transparent": True} if job.finish.transparent else {}),
        "noisereel": __version__,
    }
