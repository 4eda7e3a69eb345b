"""Who appears in the sprites world and what they wear: the wardrobe, how it is named, and the order it is drawn in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from noisereel.worlds.sprite_sheets import Layer


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something to wear: its folder (``{build}`` stands for the body's), and how captions name it with its colour."""

    folder: str
    ways: tuple[str, ...]  # "a {} T-shirt"
    fights: bool = True  # False where no sheet shows it in a fight, so that a caption would name what is not drawn


def _torso(name: str, *ways: str) -> Item:
    return Item(folder=f"Clothing/{{build}}/Torso/{name}", ways=ways)


def _legs(name: str, *ways: str, fights: bool = True) -> Item:
    return Item(folder=f"Clothing/{{build}}/Legs/{name}", ways=ways, fights=fights)


def _feet(name: str, *ways: str, fights: bool = True) -> Item:
    return Item(folder=f"Clothing/{{build}}/Feet/{name}", ways=ways, fights=fights)


def _hair(name: str, *ways: str) -> Item:
    return Item(folder=f"Hair/{name}", ways=ways)


def _head(name: str, *ways: str) -> Item:
    return Item(folder=f"Head Accessories/{name}", ways=ways)


WARDROBE: dict[str, dict[str, Item]] = {
    "hair": {
        "buzzcut": _hair("Short 01 - Buzzcut", "a {} buzzcut", "very short {} hair"),
        "parted": _hair("Short 02 - Parted", "parted {} hair", "short parted {} hair"),
        "short curls": _hair("Short 03 - Curly", "short curly {} hair", "short {} curls"),
        "cowlick": _hair("Short 04 - Cowlick", "short {} hair with a cowlick"),
        "short": _hair("Short 05 - Natural", "short {} hair"),
        "flat top": _hair("Short 07 - Flat Top", "a {} flat top"),
        "page": _hair("Medium 01 - Page", "a {} pageboy cut", "chin-length {} hair"),
        "long curls": _hair("Medium 02 - Curly", "long curly {} hair", "long {} curls"),
        "layered": _hair("Medium 03 - Idol", "layered {} hair"),
        "bun": _hair("Medium 04 - Bangs & Bun", "{} hair in a bun", "a {} bun"),
        "cornrows": _hair("Medium 05 - Cornrows", "{} cornrows"),
        "dreadlocks": _hair("Medium 06 - Dreadlocks", "{} dreadlocks"),
        "side bob": _hair("Medium 07 - Bob, Side Part", "a side-parted {} bob"),
        "bob": _hair("Medium 08 - Bob, Bangs", "a {} bob"),
        "twists": _hair("Medium 09 - Twists", "{} twists", "tall {} twists"),
    },
    "beard": {
        "moustache": _hair("Facial Hair 01 - Walrus Mustache", "a {} moustache"),
        "trimmed": _hair("Facial Hair 06 - Trimmed Beard", "a short {} beard"),
        "beard": _hair("Facial Hair 07 - Medium Beard", "a {} beard", "a full {} beard"),
    },
    "glasses": {
        "glasses": _head("Eyewear 01 - Glasses", "glasses"),
        "eyepatch": _head("Eyewear 03 - Eyepatch", "an eyepatch"),
    },
    "helmet": {
        "bascinet": _head("Helm 01 - Bascinet, Open", "an open {} helmet", "an open {} bascinet"),
        "closed": _head("Helm 02 - Bascinet, Closed", "a closed {} helmet", "a {} helmet with its visor down"),
        "norman": _head("Helm 03 - Norman", "a pointed {} helmet"),
        "hood": _head("Helm 04 - Chainmail Hood", "a {} chainmail hood"),
        "morion": _head("Helm 06 - Morion", "a crested {} helmet"),
    },
    "top": {
        "long sleeves": _torso("Shirt 01 - Longsleeve Shirt", "a {} long-sleeved shirt", "a {} shirt with long sleeves"),
        "V-neck": _torso("Shirt 02 - V-neck Longsleeve Shirt", "a {} long-sleeved V-neck", "a {} jumper"),
        "buttoned": _torso("Shirt 07 - Buttoned Longsleeve Shirt", "a {} buttoned shirt"),
        "T-shirt": _torso("Shirt 04 - T-shirt", "a {} T-shirt", "a {} shirt with short sleeves"),
        "scoop": _torso("Shirt 06 - Scoop T-shirt", "a {} scoop-neck T-shirt"),
        "polo": _torso("Shirt 09 - Polo", "a {} polo shirt"),
    },
    "over": {"cardigan": Item(folder="Clothing/{build}/Torso 2/Sweater 01 - Cardigan", ways=("a {} cardigan",))},
    "bow tie": {"bow tie": Item(folder="Clothing/{build}/Accessories/Neckwear 01 - Bowtie", ways=("a {} bow tie",))},
    "legs": {
        "trousers": _legs("Pants 03 - Pants", "{} trousers", "{} pants"),
        "leggings": _legs("Pants 02 - Leggings", "{} leggings", "tight {} trousers"),
        "cuffed": _legs("Pants 04 - Cuffed Pants", "{} cuffed trousers"),
        "overalls": _legs("Pants 05 - Overalls", "{} overalls", "{} dungarees", fights=False),
        "shorts": _legs("Shorts 01 - Shorts", "{} shorts", fights=False),
        "short shorts": _legs("Shorts 02 - Short Shorts", "short {} shorts", fights=False),
    },
    "socks": {"socks": _feet("Socks 02 - High Socks", "{} socks", "high {} socks", fights=False)},
    "feet": {
        "shoes": _feet("Shoes 01 - Shoes", "{} shoes"),
        "boots": _feet("Shoes 02 - Boots", "{} boots", fights=False),
    },
    "wings": {
        "feathered": Item(folder="Body/Wings 01 - Feathered Wings", ways=("{} feathered wings", "{} wings"), fights=False),
        "bat": Item(folder="Body/Wings 02 - Bat Wings", ways=("{} bat wings",), fights=False),
    },
}
# What captions call a ramp. Cloth in the colours of skin (tan, brown, peach, ...) would read as bare skin and is left out.
_CLOTH = {
    "white": "White",
    "grey": "Gray",
    "black": "Black",
    "red": "Red",
    "orange": "Red Orange",
    "yellow": "Lemon",
    "light green": "Spring",
    "green": "Green",
    "teal": "Teal",
    "sky blue": "Sky",
    "blue": "Royal",
    "navy": "Navy",
    "purple": "Indigo",
    "pink": "Cerise",
}
_LEATHER = {"black": "Black", "brown": "Chocolate", "grey": "Gray", "white": "White", "red": "Red"}
_HAIR = {
    "black": "Black",
    "brown": "Brown",
    "light brown": "Ash Brown",
    "blonde": "Blonde",
    "platinum blonde": "Platinum",
    "ginger": "Orange",
    "red": "Ruby",
    "grey": "Silver",
    "white": "White",
    "blue": "Blue",
    "green": "Green",
    "pink": "Pink",
    "purple": "Purple",
    "teal": "Teal",
}
_METAL = {"steel": "Steel", "golden": "Gold", "copper": "Copper"}
# Slot -> the material that its sheets are drawn in, and the colours it comes in.
COLOURS: dict[str, tuple[str | None, Mapping[str, str]]] = {
    "hair": ("Hair", _HAIR),
    "beard": ("Hair", _HAIR),
    "glasses": (None, {"": ""}),
    "helmet": ("Metal", _METAL),
    "top": ("Clothing", _CLOTH),
    "over": ("Clothing", _CLOTH),
    "bow tie": ("Clothing", _CLOTH),
    "legs": ("Clothing", _CLOTH),
    "socks": ("Clothing", _CLOTH),
    "feet": ("Clothing", _LEATHER),
    "wings": ("Clothing", {"white": "White", "black": "Black", "red": "Red", "grey": "Gray"}),
}
BUILDS = {  # who -> the body's and the head's folder
    "woman": ("01 - Feminine, Thin", "01 - Feminine"),
    "man": ("02 - Masculine, Thin", "02 - Masculine"),
    "old woman": ("01 - Feminine, Thin", "03 - Elderly"),
    "old man": ("02 - Masculine, Thin", "03 - Elderly"),
}
_SKINS = ("Porcelain", "Ivory", "Peach", "Tan", "Tawny", "Honey", "Bronze", "Brown", "Coffee")
_WHO_ODDS = (0.35, 0.35, 0.15, 0.15)
_SWORD = "Props/Sword 01 - Arming Sword"
_BROWS = "Hair/Eyebrows 01 - Thin Eyebrows"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Someone to draw: ``wears`` maps a slot of the wardrobe to what fills it and its colour."""

    who: str
    skin: str
    wears: Mapping[str, tuple[str, str]]

    @property
    def identity(self) -> tuple[str, ...]:
        """What sets people apart; skin, which captions do not name, does not."""
        return (self.who, *(" ".join(self.wears[slot]) for slot in ("hair", "helmet", "top", "legs") if slot in self.wears))


def draw_person(rng: np.random.Generator, *, fights: bool, may_have_wings: bool) -> Person:
    """A random person, dressed in what can be drawn."""
    who = str(rng.choice(list(BUILDS), p=_WHO_ODDS))
    legs = _choose(rng, "legs", fights)
    slots = {
        "helmet": rng.random() < 0.15,
        "beard": "woman" not in who and rng.random() < 0.35,
        "glasses": rng.random() < 0.12,
        "top": True,
        "over": legs != "overalls" and rng.random() < 0.12,
        "bow tie": rng.random() < 0.06,
        "socks": "shorts" in legs and rng.random() < 0.4,
        "feet": rng.random() < 0.92,
        "wings": may_have_wings and rng.random() < 0.1,
    }
    slots["hair"] = not slots["helmet"] and rng.random() < 0.95
    wears = {slot: (_choose(rng, slot, fights), _colour(rng, slot)) for slot, worn in sorted(slots.items()) if worn}
    wears["legs"] = (legs, _colour(rng, "legs"))
    if "hair" in wears and "beard" in wears:
        wears["beard"] = (wears["beard"][0], wears["hair"][1])
    return Person(who=who, skin=str(rng.choice(_SKINS)), wears=wears)


def layers(person: Person, *, sword: bool) -> list[Layer]:
    """What to draw, from back to front; a layer without a sheet for an animation is left out by the checkout."""
    wears = person.wears
    body, head = BUILDS[person.who]

    def worn(slot: str, behind: str = "") -> list[Layer]:
        if slot not in wears:
            return []
        kind, colour = wears[slot]
        material, ramps = COLOURS[slot]
        folder = WARDROBE[slot][kind].folder.format(build=body[5:]) + behind
        on_head = slot in ("hair", "beard", "glasses", "helmet")
        return [Layer(name=slot, folder=folder, material=material, ramp=ramps[colour], on_head=on_head)]

    boots = wears.get("feet", ("", ""))[0] == "boots"
    overalls = wears["legs"][0] == "overalls"
    brows = COLOURS["hair"][1][wears["hair"][1]] if "hair" in wears else "Brown"
    return [
        *worn("wings", "/_ Behind"),
        *worn("hair", "/_Behind"),
        *([Layer(name="sword", folder=f"{_SWORD}/_Behind")] if sword else []),
        Layer(name="body", folder=f"Body/Body {body}", material="Skin", ramp=person.skin),
        *worn("socks"),
        *([] if boots else worn("feet")),
        *([] if overalls else worn("legs")),
        *worn("top"),
        *(worn("legs") if overalls else []),
        *worn("over"),
        *worn("bow tie"),
        *(worn("feet") if boots else []),
        Layer(name="head", folder=f"Head/Head {head}", material="Skin", ramp=person.skin, on_head=True),
        *worn("beard"),
        Layer(name="brows", folder=_BROWS, material="Hair", ramp=brows, on_head=True),
        *worn("glasses"),
        *worn("hair"),
        *worn("helmet"),
        *worn("wings"),
        *([Layer(name="sword", folder=_SWORD)] if sword else []),
    ]


def folders() -> set[str]:
    """Every folder of Characters that somebody may need."""
    builds = {body[5:] for body, _ in BUILDS.values()}
    worn = {item.folder.format(build=build) for kinds in WARDROBE.values() for item in kinds.values() for build in builds}
    people = {folder for body, head in BUILDS.values() for folder in (f"Body/Body {body}", f"Head/Head {head}")}
    return worn | people | {_SWORD, _BROWS}


def _choose(rng: np.random.Generator, slot: str, fights: bool) -> str:
    return str(rng.choice([kind for kind, item in WARDROBE[slot].items() if item.fights or not fights]))


def _colour(rng: np.random.Generator, slot: str) -> str:
    return str(rng.choice(list(COLOURS[slot][1])))
