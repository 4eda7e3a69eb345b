"""Unchosen samples of a model: its first seeds on the first held-out prompts, as strips of frames under their sentences.

python benchmarks/gallery.py --model default --out docs/images/samples.png
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from noisereel import TextToVideo
from noisereel.types import Video, generators
from noisereel.worlds.shapes import Shapes

MARGIN, LINE, COLUMNS = 8, 15, 2


def sheet(videos: Video, prompts: list[str], scale: int) -> Image.Image:
    """Strips of frames in two columns, each under its prompt."""
    count, _, frames, height, width = videos.shape
    cell = frames * (width * scale + 2) + 2 * MARGIN, height * scale + 2 * LINE + 2 * MARGIN
    page = Image.new("RGB", (COLUMNS * cell[0], -(-count // COLUMNS) * cell[1]), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    pixels = ((videos / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 4, 1).numpy()
    for number, (clip, prompt) in enumerate(zip(pixels, prompts, strict=True)):
        left, top = number % COLUMNS * cell[0] + MARGIN, number // COLUMNS * cell[1] + MARGIN
        for line, text in enumerate(textwrap.wrap(prompt, cell[0] // 7)[:2]):
            draw.text((left, top + line * LINE), text, fill="black", font=font)
        for frame, picture in enumerate(clip):
            big = Image.fromarray(np.kron(picture, np.ones((scale, scale, 1), np.uint8)))
            page.paste(big, (left + frame * (width * scale + 2), top + 2 * LINE))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="show every N-th frame")
    options = parser.parse_args()
    pipe = TextToVideo.from_pretrained(options.model)
    stage = pipe.system.last
    part = "small" if pipe.call["arguments"].get("data") == "shapes-small" else "full"
    world = Shapes(part=part, frames=stage.shape[0], fps=stage.fps, seconds=stage.shape[0] / stage.fps)
    prompts = [prompt for prompt, _ in world.captions(options.count)]
    *_, last = pipe.system.sample(prompts, generators(0, range(options.count)))
    assert last.video is not None
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(last.video[:, :, :: options.every], prompts, options.scale).save(options.out)


if __name__ == "__main__":
    main()
