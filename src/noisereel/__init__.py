"""Noisereel: the reference laboratory for video diffusion."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["TextToVideo", "export_to_video"]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that importing the package costs nothing over importing torch.
    if name == "TextToVideo":
        from noisereel.pipeline import TextToVideo

        return TextToVideo
    if name == "export_to_video":
        from noisereel.data.writer import export_to_video

        return export_to_video
    raise AttributeError(f"module 'noisereel' has no attribute {name!r}")
