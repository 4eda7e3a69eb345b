"""argparse whose mistakes are ValueErrors of one line."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """The parser of one verb: no abbreviations, options and prompts in any order, close matches suggested."""

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(prog=f"noisereel {verb}", description=description, allow_abbrev=False)
        self.add_argument("--json", action="store_true", help="print one JSON object, for machines")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace | None:
        """The options, or None after printing help.

        Raises:
            ValueError: what argparse would exit for.
        """
        if "-h" in arguments or "--help" in arguments:
            print(self.format_help().rstrip())
            return None
        options, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            raise ValueError(self.misunderstood(unknown[0]))
        return options

    def misunderstood(self, argument: str) -> str:
        """What to say of an argument that no option takes."""
        name = argument.split("=")[0]
        if not name.startswith("-"):
            return f"what is {argument!r} for? see {self.prog} --help"
        guess = close_match(name, self._option_string_actions)
        return f"there is no option {name}{guess or f'; see {self.prog} --help'}"

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def close_match(word: str, legal: Iterable[str]) -> str:
    """``"; did you mean ...?"`` where something legal is near, else nothing."""
    near = difflib.get_close_matches(word, list(legal), n=1)
    return f"; did you mean {near[0]}?" if near else ""
