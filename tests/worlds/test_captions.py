from noisereel.worlds.captions import Language
from noisereel.worlds.dice import dice, held_out

LANGUAGE = Language(
    templates=("a {colour} {shape}", "a video of a {shape}", "{shape}: {colour}"),
    words={"colour": {"red": ("red", "orange")}, "shape": {"ring": ("ring", "unicorn", "octagon")}},
)
VALUES = {"colour": "red", "shape": "ring"}


def test_a_phrase_is_one_of_the_phrasings_and_each_of_them_comes_up():
    every = set(LANGUAGE.phrasings(VALUES))
    assert len(every) == 2 * 3 + 3 + 3 * 2
    assert {LANGUAGE.phrase(dice("test", index), VALUES) for index in range(400)} == every


def test_articles_follow_the_sound():
    every = set(LANGUAGE.phrasings(VALUES))
    assert {"an orange ring", "a video of an octagon", "a video of a unicorn"} <= every
    assert "an unicorn" not in " ".join(every)


def test_a_value_without_synonyms_is_said_as_it_is():
    assert set(LANGUAGE.phrasings({"colour": "blue", "shape": "bar"})) == {"a blue bar", "a video of a bar", "bar: blue"}


def test_dice_depend_on_name_and_index_alone():
    assert dice("a", 3).integers(2**62) == dice("a", 3).integers(2**62)
    assert len({int(dice(name, index).integers(2**62)) for name in "ab" for index in range(50)}) == 100


def test_the_held_out_part_never_changes():
    kept = [number for number in range(60) if held_out("circle", str(number))]
    assert kept == [4, 21, 23, 30, 31, 43, 50, 53, 56]
