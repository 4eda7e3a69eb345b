"""Content credentials: signed by a certificate made here, read back by show, broken by a changed byte."""

import datetime
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("c2pa", reason="needs noisereel[provenance]")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from noisereel.cli.app import main
from noisereel.data.writer import read_metadata, write
from noisereel.making.credentials import FORMATS, Signing, read_credentials


def certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
    def named(common: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests")]
        )

    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    folder = tmp_path_factory.mktemp("certificates")
    authority, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = certificate("signer", signer, "authority", authority, ca=False)
    (folder / "chain.pem").write_bytes(chain + certificate("authority", authority, "authority", authority, ca=True))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(signer.private_bytes(*form))
    return Signing(certificates=folder / "chain.pem", key=folder / "key.pem")


@pytest.mark.parametrize("ending", FORMATS)
def test_signed_read_back_and_broken_by_a_change(signing: Signing, tmp_path: Path, ending: str) -> None:
    path, note = tmp_path / f"video{ending}", {"prompt": "a red circle", "seed": 1}
    write(torch.rand(3, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1, path, fps=4, metadata=note)
    assert read_credentials(path) is None
    signing.sign(path, note)
    signed = read_credentials(path)
    assert signed is not None
    assert (signed["state"], signed["common_name"], signed["recipe"]) == ("Valid", "signer", note)
    assert read_metadata(path) == note
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    changed = read_credentials(path)
    assert changed is None or changed["state"] == "Invalid"


def test_generate_signs_and_show_tells(
    signing: Signing, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with_ = ["--model", str(tiny_folder), "--signing", str(signing.certificates), str(signing.key)]
    assert main(["generate", "a red circle", "-o", "out.mp4", *with_]) == 0
    capsys.readouterr()
    assert main(["show", "out.mp4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["credentials"]["common_name"] == "signer"
    assert main(["generate", "a red circle", "-o", "out.webm", *with_]) == 2
    assert "cannot hold content credentials" in capsys.readouterr().err
    assert not Path("out.webm").exists()


def test_files_that_cannot_sign(signing: Signing, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file"):
        Signing(certificates=tmp_path / "none.pem", key=signing.key).check()
    (tmp_path / "key.pem").write_text("not a key")
    with pytest.raises(ValueError, match="cannot sign"):
        Signing(certificates=signing.certificates, key=tmp_path / "key.pem").check()
