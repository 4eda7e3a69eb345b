"""A video file that is written piece by piece, and the sound it takes over from another: memory does not grow with length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from noisereel.data.media import IMAGE_ENDINGS

Frames = UInt8[np.ndarray, "t h w c"]
AddFrames = Callable[[Frames], None]

# Ending -> encoder, its options, and the sound that its container holds as it is.
FILMS: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    ".mp4": ("libx264", {"crf": "12", "preset": "medium"}, ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")),
    ".webm": ("libvpx-vp9", {"crf": "16", "b": "0", "cpu-used": "4"}, ("opus", "vorbis")),
}
_CLEAR = "transparency is laid on white"
_LEAD_IN = 0.1  # seconds of sound that decoders need before what is heard
_BT709 = 1  # its number in every table of H.273; as a range, 1 is the limited one that video uses


@contextmanager
def film(
    path: Path, ending: str, *, fps: float, size: tuple[int, int], note: str = "", sound: Path | None = None
) -> Iterator[AddFrames]:
    """Encode to ``path``, in the format of ``ending``, what the yielded function is given.

    Args:
        size: height and width of a frame; odd ones gain an edge row or column, which 4:2:0 needs to play everywhere.
        note: goes into the file as its comment.
        sound: a file whose sound is copied, as far as ``sounds`` says that this format holds it.
    """
    import av

    codec, options, _ = FILMS[ending]
    height, width = size
    with ExitStack() as stack:
        settings = {"movflags": "faststart"} if ending == ".mp4" else {}
        output = stack.enter_context(av.open(str(path), "w", format=ending[1:], options=settings))
        output.metadata["comment"] = note
        stream: Any = output.add_stream(codec, rate=Fraction(fps).limit_denominator(100_000), options=options)
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        context = stream.codec_context
        context.thread_count = 1  # bytes that do not depend on the machine
        # Untagged colours are read as BT.601 by some players and as BT.709 by others.
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        copied = _Sound(stack.enter_context(av.open(str(sound))), output, ending) if sound else None
        count = 0

        def add(frames: Frames) -> None:
            nonlocal count
            for array in np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge"):
                frame = av.VideoFrame.from_ndarray(array, format="rgb24")
                output.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
                count += 1
                if copied:
                    copied.until(count / fps)

        yield add
        output.mux(stream.encode(None))
        if copied:
            copied.until(float("inf"))


def sounds(path: Path, ending: str) -> tuple[list[str], list[str]]:
    """The codecs of a file's sound streams: those that a video file of ``ending`` takes over, and those that it cannot hold."""
    import av

    if path.suffix.lower() in IMAGE_ENDINGS:
        return [], []
    with av.open(str(path)) as container:
        names = [stream.codec.canonical_name for stream in container.streams.audio]
    held = FILMS[ending][2] if ending in FILMS else ()
    return [name for name in names if name in held], [name for name in names if name not in held]


def losses(path: Path, ending: str) -> list[str]:
    """What of a video file another of ``ending`` will not show or play when its frames are read one by one, in words."""
    if path.suffix.lower() in IMAGE_ENDINGS:
        with Image.open(path) as image:
            return [_CLEAR] if image.has_transparency_data else []
    import av

    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        colours = stream.codec_context.format.components
        usual, guessed = (float(rate or 0) for rate in (stream.average_rate, stream.guessed_rate))
        others = [other.type for other in container.streams if other.type not in ("video", "audio", "data")]
        found = [
            (any(colour.is_alpha for colour in colours), _CLEAR),
            (max(colour.bits for colour in colours) > 8, f"colours of {max(colour.bits for colour in colours)} bits become 8"),
            (abs(usual - guessed) > 0.01 * guessed, f"its varying rate becomes a steady {usual:.5g} frames a second"),
            (len(container.streams.video) > 1, f"{len(container.streams.video) - 1} further video streams"),
            (bool(others), f"its {' and '.join(dict.fromkeys(others))} streams"),
        ]
    _, unheard = sounds(path, ending)
    found.append((bool(unheard), f"its sound ({', '.join(unheard)}), which {ending} cannot hold"))
    return [what for lost, what in found if lost]


class _Sound:
    """The sound of another file, copied as it is, up to as far as the video has come: containers want them interleaved."""

    def __init__(self, source: Any, output: Any, ending: str) -> None:
        wanted = [stream for stream in source.streams.audio if stream.codec.canonical_name in FILMS[ending][2]]
        self.output = output
        self.targets = {stream.index: output.add_stream_from_template(stream) for stream in wanted}
        pictures = source.streams.video[0]
        self.origin = float((pictures.start_time or 0) * pictures.time_base)
        self.packets = iter(source.demux(wanted) if wanted else ())
        self.next = self._read()

    def until(self, seconds: float) -> None:
        """Copy what is heard before ``seconds``."""
        while self.next is not None and self.next[0] < seconds:
            moment, packet = self.next
            if moment > -_LEAD_IN:  # what was heard long before the first picture has no place
                self.output.mux(packet)
            self.next = self._read()

    def _read(self) -> tuple[float, Any] | None:
        """The next packet, and when it is heard after the first picture."""
        packet = next((packet for packet in self.packets if packet.dts is not None), None)
        if packet is None:
            return None
        shift = round(self.origin / packet.time_base)
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else packet.pts - shift
        packet.stream = self.targets[packet.stream.index]
        return float(packet.dts * packet.time_base), packet
