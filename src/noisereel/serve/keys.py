"""Who may use the server: keys from a file, compared in a time that tells nothing."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from noisereel.serve.errors import Refused


@dataclass(frozen=True)
class Keys:
    """SHA-256 of each key, by the name of its owner; none at all lets everybody in."""

    digests: Mapping[str, bytes]

    @classmethod
    def read(cls, path: Path | None) -> Keys:
        """One key a line, as ``NAME KEY`` or alone; empty lines and those that begin with # are left out.

        Raises:
            ValueError: the file is missing or empty, a key is short, or two have one name.
        """
        if path is None:
            return cls({})
        if not path.is_file():
            raise ValueError(f"there is no file of keys {path}")
        digests: dict[str, bytes] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            name, key = (f"key-{number}", words[0]) if len(words) == 1 else (words[0], words[1])
            if len(words) > 2 or len(key) < 16:
                raise ValueError(f"{path}, line {number}: write NAME KEY, the key of 16 characters or more")
            if name in digests:
                raise ValueError(f"{path}, line {number}: a second key is called {name}")
            digests[name] = _digest(key)
        if not digests:
            raise ValueError(f"{path} holds no key: write one a line, as NAME KEY")
        return cls(digests)

    def owner(self, authorization: str | None) -> str:
        """Whose key ``Authorization: Bearer KEY`` holds; the empty name where no keys are asked for.

        Raises:
            Refused: no key, or a wrong one.
        """
        if not self.digests:
            return ""
        kind, _, given = (authorization or "").partition(" ")
        digest = _digest(given.strip())
        found = None
        for name, known in self.digests.items():  # all of them, so that the time does not tell which was near
            if hmac.compare_digest(known, digest):
                found = name
        if kind.lower() != "bearer" or found is None:
            raise Refused(
                401,
                "This server needs a key: send it as Authorization: Bearer KEY.",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
