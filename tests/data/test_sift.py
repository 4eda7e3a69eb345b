"""Which scenes are kept: by rules, and by having been seen before; the search for copies equals trying them all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisereel.data.scenes import Look, Scene
from noisereel.data.sift import Alike, Rules, distance, sifted


def scene(*, seconds: float = 2.0, brightness: float = 0.5, motion: float = 0.1, prints: tuple[int, ...] = (0,)) -> Scene:
    return Scene(
        start=1.0, end=1.0 + seconds, brightness=brightness, motion=motion, prints=tuple(f"{one:016x}" for one in prints)
    )


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (scene(), None),
        (scene(seconds=0.5), "too short: seconds 0.5, under 1"),
        (scene(seconds=20), "too long: seconds 20, over 10"),
        (scene(brightness=0.01), "too dark: brightness 0.01, under 0.02"),
        (scene(brightness=0.99), "too bright: brightness 0.99, over 0.98"),
        (scene(motion=0.0001), "too still: motion 0.0001, under 0.0005"),
    ],
)
def test_the_reason_says_what_was_measured_and_where_the_bound_is(one: Scene, says: str | None) -> None:
    assert Rules(seconds=(1, 10)).refusal(one, still=False) == says


def test_of_a_still_image_only_brightness_counts() -> None:
    assert Rules().refusal(scene(seconds=0, motion=0), still=True) is None
    assert Rules().refusal(scene(brightness=0), still=True)


def test_a_copy_names_what_came_before_it_and_a_refused_scene_is_nobodys_original() -> None:
    looks = [
        ("dark.mp4", Look(scenes=(scene(brightness=0, prints=(7,)),))),
        ("first.mp4", Look(scenes=(scene(prints=(7,)), scene(prints=(2**63 - 1,))))),
        ("again.mp4", Look(scenes=(scene(prints=(6,)),))),
    ]
    assert [(name, reason) for name, _, reason in sifted(looks, Rules())] == [
        ("dark.mp4", "too dark: brightness 0, under 0.02"),
        ("first.mp4", None),
        ("first.mp4", None),
        ("again.mp4", "it looks like first.mp4 [1.00-3.00 s]"),
    ]
    assert [reason for *_, reason in sifted(looks[1:], Rules(duplicates=-1))] == [None] * 3


def test_scenes_of_other_lengths_are_no_copies() -> None:
    alike = Alike(2.5)
    assert alike.before("one", scene(seconds=2.0)) is None
    assert alike.before("other", scene(seconds=3.0)) is None
    assert alike.before("same", scene(seconds=2.1)) == "one"


flips = st.lists(st.integers(0, 127), max_size=12)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), flips), max_size=25), st.floats(0, 5))
def test_copies_are_found_as_if_all_were_compared(rows: list[tuple[int, list[int]]], bits: float) -> None:
    def made(base: int, flipped: list[int]) -> Scene:
        number = base * 0x1234_5678_9ABC_DEF0_0FED_CBA9_8765_4321 % 2**128
        for bit in flipped:
            number ^= 1 << bit
        return scene(prints=(number >> 64, number % 2**64))

    alike, met = Alike(bits), []
    for number, row in enumerate(rows):
        one = made(*row)
        expected = next((name for name, other in met if distance(one, other) <= int(2 * bits)), None)
        assert alike.before(str(number), one) == expected
        met += [] if expected else [(str(number), one)]


@pytest.mark.parametrize("wrong", [dict(motion=(0.5, 0.1)), dict(seconds=(1, 1)), dict(duplicates=20)])
def test_rules_that_nothing_fits_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"give the smaller number first|are not alike"):
        Rules(**wrong)
