"""Content credentials (C2PA): a signed statement inside a file that a model made it, and with which recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisereel import __version__
from noisereel.data.writer import whole

FORMATS = {
    ".mp4": "video/mp4",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".png": "image/png",
    ".apng": "image/png",
}
# IPTC's word for what a generative model made, which C2PA prescribes for it (specification 2.1, section 18.15.4.3).
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_RECIPE = "org.noisereel.recipe"


@dataclass(frozen=True, kw_only=True)
class Signing:
    """Whose credentials files carry: a chain of certificates in PEM, the signer's first, and the signer's private key."""

    certificates: Path
    key: Path

    def check(self, path: Path | None = None) -> None:
        """See that it can be used, for a file of that name if one is given, before the work that it is to sign.

        Raises:
            ValueError: a file is missing, is not what it should be, or c2pa-python is not installed; a format that holds none.
        """
        if path is not None:
            _format(path)
        self._signer().close()

    def sign(self, path: Path, note: Mapping[str, Any]) -> None:
        """Put signed credentials into a file that was written.

        Raises:
            ValueError: a format that holds none, or a certificate that may not sign.
        """
        format_, c2pa = _format(path), _library()
        signer = self._signer()
        try:
            with whole(path) as (signed,), path.open("rb") as source, signed.open("w+b") as target:
                c2pa.Builder(json.dumps(manifest(path.name, note))).sign(signer, format_, source, target)
        except c2pa.C2paError as error:
            raise ValueError(f"the credentials cannot be signed with {self.certificates}: {_said(error)}") from error
        finally:
            signer.close()

    def _signer(self) -> Any:
        c2pa = _library()
        for path in (self.certificates, self.key):
            if not path.is_file():
                raise ValueError(f"there is no file {path} to sign content credentials with")
        chain, key = self.certificates.read_bytes(), self.key.read_bytes()
        try:
            return c2pa.Signer.from_info(c2pa.C2paSignerInfo(_algorithm(key), chain, key, None))
        except (c2pa.C2paError, ValueError) as error:
            raise ValueError(f"{self.certificates} and {self.key} cannot sign content credentials: {_said(error)}") from error


def manifest(title: str, note: Mapping[str, Any]) -> dict[str, Any]:
    """What is stated: that the file was created by a trained model, and the recipe."""
    action = {
        "action": "c2pa.created",
        "digitalSourceType": _SOURCE,
        "softwareAgent": {"name": "noisereel", "version": __version__},
    }
    return {
        "claim_generator_info": [{"name": "noisereel", "version": __version__}],
        "title": title,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": _RECIPE, "data": dict(note)},
        ],
    }


def read_credentials(path: Path) -> dict[str, Any] | None:
    """Who signed a file, when and whether it is unchanged; None where there is nothing signed, or no c2pa-python to read it.

    ``state`` is Trusted, Valid (unchanged, by a signer that nobody vouches for) or Invalid.
    """
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        return None
    try:
        c2pa = _library()
    except ValueError:
        return None
    with path.open("rb") as stream:
        try:
            reader = c2pa.Reader(format_, stream)
        except c2pa.C2paError:
            return None
        active = reader.get_active_manifest() or {}
        state = str(reader.get_validation_state())
    signature = active.get("signature_info") or {}
    recipe: dict[str, Any] = next((item["data"] for item in active.get("assertions", []) if item.get("label") == _RECIPE), {})
    issuer = {name: signature[name] for name in ("issuer", "common_name", "alg", "time") if signature.get(name)}
    return {"state": state, **issuer, "recipe": recipe}


def _format(path: Path) -> str:
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path.name} cannot hold content credentials: end it in {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


def _algorithm(key: bytes) -> Any:
    """The algorithm that goes with a private key."""
    from c2pa import C2paSigningAlg
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = load_pem_private_key(key, password=None)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return C2paSigningAlg.ED25519
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return {256: C2paSigningAlg.ES256, 384: C2paSigningAlg.ES384, 521: C2paSigningAlg.ES512}[private.curve.key_size]
    return C2paSigningAlg.PS256


def _library() -> Any:
    try:
        import c2pa
    except ImportError as error:
        raise ValueError("content credentials need c2pa-python: pip install 'noisereel[provenance]'") from error
    return c2pa


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
