"""Shapes for clips of many sizes: little is cropped, nothing is stretched, no frame is invented."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisereel.data.buckets import Grid, best, cut_off, shapes_of
from noisereel.data.decode import Probe

GRID = Grid(shape=(17, 64, 64), stride=(4, 8, 8), lead=1, fps=16.0)


def film(height: int, width: int, seconds: float = 10.0, frames: int = 300) -> Probe:
    return Probe(frames=frames, fps=30.0, height=height, width=width, seconds=seconds)


@pytest.mark.parametrize(
    ("facts", "shape"),
    [
        (film(480, 480), (17, 64, 64)),
        (film(1080, 1920), (17, 48, 88)),  # 64 * 64 pixels at 9 : 16 are 48 x 85.3
        (film(1920, 1080), (17, 88, 48)),
        (film(480, 480, seconds=1.0625), (17, 64, 64)),
        (film(480, 480, seconds=1.0), (9, 64, 64)),  # 16 frames are there, so half of 4 steps
        (film(480, 480, seconds=0.32), (5, 64, 64)),
        (film(480, 480, seconds=0.3), None),
        (film(480, 480, frames=1), (1, 64, 64)),
    ],
)
def test_native_shapes(facts: Probe, shape: tuple[int, int, int] | None) -> None:
    assert GRID.native(facts) == shape


films = st.builds(film, st.integers(16, 2160), st.integers(16, 2160), st.floats(0.05, 20))


@settings(deadline=None, max_examples=30)
@given(films)
def test_a_native_shape_has_the_clips_aspect_and_the_models_pixels(facts: Probe) -> None:
    shape = GRID.native(facts)
    if shape is None:
        assert facts.seconds * GRID.fps < 5
        return
    frames, height, width = shape
    assert frames in (5, 9, 17)
    assert frames / GRID.fps <= facts.seconds + 1e-3
    assert height % 8 == width % 8 == 0
    tall = math.sqrt(64 * 64 * facts.height / facts.width)
    if min(tall, 64 * 64 / tall) >= 8:  # narrower than a step of the grid there is nothing
        assert abs(height - tall) <= 4
        assert abs(width - 64 * 64 / tall) <= 4


@settings(deadline=None, max_examples=30)
@given(st.lists(films, min_size=1, max_size=30), st.integers(1, 5))
def test_every_film_that_is_long_enough_has_the_bucket_that_suits_it(collection: list[Probe], most: int) -> None:
    counts = shapes_of(collection, GRID, most)
    assert len(counts) <= most
    assert sum(counts.values()) == sum(best(facts, list(counts), GRID.fps) is not None for facts in collection)
    for facts in collection:
        chosen = best(facts, list(counts), GRID.fps)
        for shape in counts:
            if chosen and shape[0] == chosen[0]:
                assert cut_off(facts, chosen) <= cut_off(facts, shape)
        if chosen is None:
            assert all(shape[0] / GRID.fps > facts.seconds for shape in counts)


def test_the_commonest_shapes_are_taken_and_the_rest_goes_where_it_loses_least() -> None:
    collection = [film(64, 64)] * 5 + [film(1080, 1920)] * 4 + [film(1920, 1080)] + [film(100, 120)] * 2
    assert shapes_of(collection, GRID, 2) == {(17, 64, 64): 8, (17, 48, 88): 4}
