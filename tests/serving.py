"""A server as people run it: the command, a tiny model, a folder of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

PROMPT = "a red circle moves to the left"


class Running:
    """A server process and its address."""

    def __init__(self, process: subprocess.Popen, address: str) -> None:
        self.process, self.address = process, address
        self.http = httpx.Client(base_url=address, timeout=30)

    def submit(self, **fields: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/videos", json={"prompt": PROMPT, **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ended(self, id: str, seconds: float = 300) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            video = self.http.get(f"/v1/videos/{id}").json()
            if video["status"] in ("completed", "failed"):
                return video
            time.sleep(0.05)
        raise AssertionError(f"{id} did not end: {video}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(model: Path, data: Path, *options: object, ready: bool = True) -> Iterator[Running]:
    code = "import sys; from noisereel.cli.app import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["serve", "--model", f"tiny={model}", "--data", data, "--port", 0, *options]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"serving .* at (http://\S+)", line):
                break
        else:
            raise AssertionError(f"the server ended: {''.join(said)}")
        yield Running(process, found[1])
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
