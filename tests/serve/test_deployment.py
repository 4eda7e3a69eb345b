"""What docs/serve.md says about running it on a server, tried as far as can be here: skipped where a program is missing."""

import base64
import datetime
import getpass
import json
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import PROMPT, Running, serving

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-enough-letters"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def block(kind: str) -> str:
    """The one block of code of a kind in docs/serve.md."""
    (found,) = re.findall(rf"```{kind}\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(), re.DOTALL)
    return found


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: each with what follows it, continued lines joined, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(first, rest) for first, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def test_the_dockerfile_copies_what_the_package_is_built_from() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    stages = " ".join(name for name, _ in instructions()).split("FROM")[1:]
    assert len(stages) == 2
    copied = [
        source for name, rest in instructions() if name == "COPY" and "--from" not in rest for source in rest.split()[:-1]
    ]
    assert all((ROOT / source).exists() for source in copied)
    needed = {"pyproject.toml", "src", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert needed <= set(copied)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {source for source in copied if source in ignored}
    extras = re.search(r"\.\[([\w,]+)\]", " ".join(rest for name, rest in instructions() if name == "RUN"))[1]
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])


def test_the_image_starts_a_server_that_asks_for_keys(tmp_path: Path) -> None:
    from noisereel.cli import serve

    given = dict(instructions())
    command = [*json.loads(given["ENTRYPOINT"]), *json.loads(given["CMD"])]
    assert command[:2] == ["noisereel", "serve"]
    options = serve.parse(command[2:])
    assert (options.host, str(options.data), str(options.api_key_file)) == ("0.0.0.0", given["VOLUME"], "/run/keys")
    serve.check(options)
    _, _, check = given["HEALTHCHECK"].partition("CMD ")
    compile(json.loads(check)[2], "HEALTHCHECK", "exec")
    assert given["EXPOSE"] == str(options.port)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("needs systemd-analyze")
    unit = block("ini")
    (command,) = re.findall(r"ExecStart=(.*)", unit)
    program, *arguments = shlex.split(command)
    here = tmp_path / "noisereel.service"
    here.write_text(unit.replace(program, sys.executable))  # it has to be there
    done = subprocess.run([verifier, "verify", "--man=no", "--recursive-errors=no", here], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    from noisereel.cli import serve

    assert serve.parse(arguments[1:]).api_key_file.name == "keys"
    assert "KillMode=mixed" in unit  # else a worker is ended before its server, and its job counts one death more


def test_compose_mounts_what_the_others_name() -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load(block("yaml"))["services"]
    upstream = re.search(r"proxy_pass http://(\w+):(\d+)", block("nginx"))
    assert upstream[1] in services
    assert upstream[2] == dict(instructions())["EXPOSE"]
    mounted = [volume.split(":")[1] for service in services.values() for volume in service["volumes"]]
    for named in (*re.findall(r"ssl_certificate\w*\s+(.*)/[\w.]+;", block("nginx")), "/run/keys", "/data"):
        assert named in mounted
    assert services["noisereel"]["read_only"]
    assert "ports" not in services["noisereel"]  # reached through nginx alone


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a self-signed certificate for localhost and its key, named as in the docs."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "fullchain.pem").write_bytes(made.public_bytes(pem))
    (folder / "privkey.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder


@pytest.fixture(scope="module")
def behind(tiny_folder: Path, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """A server that asks for keys, and its address through the nginx of the docs."""
    if NGINX is None:
        pytest.skip("needs nginx")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "keys").write_text(f"somebody {KEY}\n")
    with serving(tiny_folder, folder / "data", "--api-key-file", folder / "keys") as running:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        site = block("nginx").replace("noisereel:8000", running.address.removeprefix("http://"))
        site = site.replace("/etc/nginx/tls", str(certificate)).replace("video.example.org", "localhost")
        site = site.replace("listen 443", f"listen 127.0.0.1:{port}")
        version = subprocess.run([NGINX, "-v"], capture_output=True, text=True).stderr
        if tuple(map(int, re.search(r"/([\d.]+)", version)[1].split("."))) < (1, 25, 1):  # it was a word of listen before
            site = re.sub(r"http2 on;.*", "", site).replace(" ssl;", " ssl http2;", 1)
        places = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"user {getpass.getuser()}; daemon off; pid {folder}/pid; error_log {folder}/errors;\n"
            f"events {{}}\nhttp {{ access_log off; {places}\n{site}\n}}\n"
        )
        command = [NGINX, "-e", str(folder / "errors"), "-c", str(folder / "nginx.conf")]
        tried = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert tried.returncode == 0, tried.stderr
        proxy = subprocess.Popen(command)
        try:
            until = time.monotonic() + 60
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < until, (folder / "errors").read_text()
                time.sleep(0.05)
            yield running, f"https://localhost:{port}"
        finally:
            proxy.terminate()
            proxy.wait()


@pytest.fixture(scope="module")
def through(behind: tuple[Running, str], certificate: Path) -> Iterator[httpx.Client]:
    trusted = ssl.create_default_context(cafile=str(certificate / "fullchain.pem"))
    with httpx.Client(base_url=behind[1], verify=trusted, timeout=120, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


def test_openais_client_works_through_tls(
    behind: tuple[Running, str], through: httpx.Client, certificate: Path, tmp_path: Path
) -> None:
    openai = pytest.importorskip("openai")
    trusting = openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=str(certificate / "fullchain.pem")))
    client = openai.OpenAI(base_url=f"{behind[1]}/v1", api_key=KEY, max_retries=0, http_client=trusting)
    video = client.videos.create_and_poll(prompt=PROMPT, poll_interval_ms=50)
    assert video.status == "completed"
    client.videos.download_content(video.id).write_to_file(tmp_path / "video.mp4")
    assert (tmp_path / "video.mp4").read_bytes()[4:8] == b"ftyp"
    part = through.get(f"/v1/videos/{video.id}/content", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert "strict-transport-security" in part.headers


def test_events_come_through_as_they_happen(through: httpx.Client) -> None:
    video = through.post("/v1/videos", json={"prompt": PROMPT, "num_inference_steps": 1000}).json()
    with through.stream("GET", f"/v1/videos/{video['id']}/events") as answer:
        for line in answer.iter_lines():
            if line == "event: progress":
                break
        state: dict[str, Any] = through.get(f"/v1/videos/{video['id']}").json()
    assert state["status"] == "in_progress"  # it is told of the first steps before the last is done
    through.delete(f"/v1/videos/{video['id']}")


def test_uploads_up_to_the_limit_and_the_pages_own_origin(behind: tuple[Running, str], through: httpx.Client) -> None:
    def sent(size: int) -> httpx.Response:
        url = f"data:image/png;base64,{base64.b64encode(bytes(size)).decode()}"
        return through.post("/v1/videos", json={"prompt": PROMPT, "input_reference": {"image_url": url}})

    assert sent(20 * 2**20).status_code == 415  # through, and no picture
    assert sent(30 * 2**20).status_code == 413
    for origin, status in ((behind[1], 200), ("https://example.com", 403)):
        answer = through.post("/v1/videos", json={"prompt": PROMPT}, headers={"Origin": origin})
        assert answer.status_code == status
    assert through.get("/v1/videos", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert "text/html" in through.get("/").headers["content-type"]
