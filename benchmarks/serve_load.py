"""The server under load: readiness, an idle request, many clients, health while sampling, kills, made-up and hostile requests.

    python benchmarks/serve_load.py ready idle load health kill schema hostile --model default

Each study starts servers of its own in a temporary folder. Numbers depend on what else the machine does: say what.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from serving import Running, serving

PROMPT = "a large red circle moves to the left on a white background"


@contextmanager
def served(options: argparse.Namespace, *more: object) -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as folder, serving(options.model, Path(folder) / "data", *more) as running:
        yield running


def ready(options: argparse.Namespace) -> dict[str, Any]:
    """From the command to the first answer of 200, and the processor time of all its processes."""
    began = time.perf_counter()
    with served(options) as running:
        wall = time.perf_counter() - began
        root = psutil.Process(running.process.pid)
        used = sum(sum(one.cpu_times()[:2]) for one in [root, *root.children(recursive=True)])
    return {"seconds": round(wall, 2), "processor_seconds": round(used, 2)}


def idle(options: argparse.Namespace) -> dict[str, Any]:
    """From sending a request to holding its mp4, beside sampling alone: asked for as often as the server says, and watched.

    The three take turns. Processor seconds are those of the worker and of the server, which a busy machine leaves alone.
    """
    import torch

    from noisereel import TextToVideo

    pipe = TextToVideo.from_pretrained(options.model)
    rows = []
    with served(options) as running:
        root = psutil.Process(running.process.pid)

        def used() -> float:
            return sum(sum(one.cpu_times()[:2]) for one in [root, *root.children(recursive=True)])

        def timed(make: Callable[[], object], processor: Callable[[], float]) -> tuple[float, float]:
            began, before = time.perf_counter(), processor()
            make()
            return time.perf_counter() - began, processor() - before

        for seed in range(options.rounds + 1):
            alone = timed(
                lambda seed=seed: pipe(PROMPT, generator=torch.Generator().manual_seed(seed), output_type="pt"),  # type: ignore[misc]
                time.process_time,
            )
            polled, watched = (timed(lambda by=by, seed=seed: by(running, seed), used) for by in (_polled, _watched))  # type: ignore[misc]
            rows.append([*alone, *polled, *watched])
    rows = rows[1:]  # the first of each is warm-up
    names = ("sampling", "sampling_processor", "polled", "polled_processor", "watched", "watched_processor")
    p50 = dict(zip(names, (statistics.median(column) for column in zip(*rows, strict=True)), strict=True))
    ratios = {f"{name}_ratio": p50[name] / p50[names["processor" in name]] for name in names[2:]}
    return {**{name: round(value, 3) for name, value in {**p50, **ratios}.items()}, "n": len(rows)}


def _polled(running: Running, seed: int) -> None:
    """As OpenAI's client does."""
    answer = running.http.post("/v1/videos", json={"prompt": PROMPT, "seed": seed})
    while answer.json()["status"] in ("queued", "in_progress"):
        time.sleep(int(answer.headers["openai-poll-after-ms"]) / 1000)
        answer = running.http.get(f"/v1/videos/{answer.json()['id']}")
    running.http.get(f"/v1/videos/{answer.json()['id']}/content")


def _watched(running: Running, seed: int) -> None:
    """As the page does, with previews."""
    video = running.submit(prompt=PROMPT, seed=seed)
    with running.http.stream("GET", f"/v1/videos/{video['id']}/events") as answer:
        for _ in answer.iter_lines():
            pass
    running.http.get(f"/v1/videos/{video['id']}/content")


def load(options: argparse.Namespace) -> dict[str, Any]:
    """Jobs of many clients at once: each waits while the queue is full, and every job must end once."""
    with served(options, "--queue", 60, "--per-key", 200, "--batch", 8) as running:
        root = psutil.Process(running.process.pid)

        def memory() -> dict[str, float]:
            return {"server": root.memory_info().rss / 2**20,
                    "all": sum(one.memory_info().rss for one in [root, *root.children(recursive=True)]) / 2**20}  # fmt: skip

        refused = 0

        def client(number: int) -> list[str]:
            nonlocal refused
            ids = []
            with httpx.Client(base_url=running.address, timeout=120) as http:
                while len(ids) < options.jobs // options.clients:
                    seed = number * 1000 + len(ids)
                    answer = http.post("/v1/videos", json={"prompt": PROMPT, "seed": seed, "num_inference_steps": 2})
                    if answer.status_code == 429:
                        refused += 1
                        time.sleep(float(answer.headers["retry-after"]) * random.uniform(0.5, 1))
                        continue
                    ids.append(answer.json()["id"])
            return ids

        running.ended(running.submit()["id"])
        before, began = memory(), time.perf_counter()
        with ThreadPoolExecutor(options.clients) as pool:
            ids = [id for some in pool.map(client, range(options.clients)) for id in some]
        states = [running.ended(id, 600)["status"] for id in ids]
        took, after = time.perf_counter() - began, memory()
    return {
        "jobs": len(ids), "distinct": len(set(ids)), "completed": states.count("completed"), "answers_429": refused,
        "seconds": round(took, 1), "megabytes_before": before, "megabytes_after": after,
    }  # fmt: skip


def health(options: argparse.Namespace) -> dict[str, Any]:
    """How long ``/health`` takes while a video is made."""
    times = []
    with served(options) as running:
        video = running.submit(prompt=PROMPT, num_inference_steps=1000)
        while running.http.get(f"/v1/videos/{video['id']}").json()["status"] == "queued":
            time.sleep(0.05)
        for _ in range(options.requests):
            began = time.perf_counter()
            assert running.http.get("/health").status_code == 200
            times.append(1000 * (time.perf_counter() - began))
            time.sleep(0.01)
        running.http.delete(f"/v1/videos/{video['id']}")
    times.sort()
    return {"p50_ms": times[len(times) // 2], "p99_ms": times[int(0.99 * len(times))], "n": len(times)}


def kill(options: argparse.Namespace) -> dict[str, Any]:
    """The server is killed at random moments while clients send jobs; every accepted job must end with one result."""
    dice = random.Random(0)
    accepted: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        for _ in range(options.kills):
            with serving(options.model, data, "--queue", 1000, "--per-key", 1000) as running:
                timer = threading.Timer(dice.uniform(0.05, 2.0), running.kill)
                timer.start()
                with httpx.Client(base_url=running.address, timeout=30) as http:
                    try:
                        while True:
                            answer = http.post("/v1/videos", json={"prompt": PROMPT, "num_inference_steps": 2})
                            if answer.status_code == 200:
                                accepted.add(answer.json()["id"])
                            time.sleep(0.2)
                    except httpx.HTTPError:
                        pass
                timer.join()
        with serving(options.model, data, "--queue", 1000, "--per-key", 1000) as running:
            states = [running.ended(id, 600)["status"] for id in accepted]
            folders = {path.name for path in (data / "results").iterdir()}
            listed, after = [], None
            while True:
                page = running.http.get("/v1/videos", params={"limit": 100, **({"after": after} if after else {})}).json()
                listed += [video["id"] for video in page["data"]]
                after = page["last_id"]
                if not page["has_more"]:
                    break
            for id in listed:  # accepted, but killed before the answer came
                running.ended(id, 600)
    missing = accepted - folders
    return {"kills": options.kills, "accepted": len(accepted), "completed": states.count("completed"),
            "without_result": len(missing), "listed_twice": len(listed) - len(set(listed))}  # fmt: skip


def schema(options: argparse.Namespace) -> dict[str, Any]:
    """Requests that schemathesis makes up from the description of the API."""
    with served(options, "--queue", 5, "--per-key", 5) as running:
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{running.address}/openapi.json",
            "--checks", "not_a_server_error", "--exclude-path", "/v1/events", "--max-examples", str(options.examples),
            "--phases", "fuzzing", "--request-timeout", "30", "--seed", "1", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
        alive = running.http.get("/health").status_code == 200
    return {"exit": done.returncode, "alive": alive, "said": done.stdout.splitlines()[-30:]}


def hostile(options: argparse.Namespace) -> dict[str, Any]:
    """Files with random bytes changed, cut off, or under a false head."""
    dice = random.Random(0)
    with served(options, "--queue", 5, "--per-key", 5) as running, tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serve"))
        from test_uploads import hostile as known

        files = list(known(Path(folder)).values())
        while len(files) < options.files:
            content = bytearray(dice.choice(files[:15]) or b"\x89PNG\r\n\x1a\n")
            for _ in range(dice.randint(1, 40)):
                content[dice.randrange(len(content))] = dice.randrange(256)
            files.append(bytes(content[: dice.randint(1, len(content))]))
        codes: dict[int, int] = {}
        slowest = 0.0
        for content in files:
            began = time.perf_counter()
            name = dice.choice(["../../x.png", "x" * 300 + ".mp4", "con.png\0.mp4", "a.png"])
            answer = running.http.post("/v1/videos", data={"prompt": PROMPT}, files={"input_reference": (name, content)})
            slowest = max(slowest, time.perf_counter() - began)
            codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
        alive = running.http.get("/health").status_code == 200
    return {"files": len(files), "codes": codes, "slowest_seconds": round(slowest, 2), "alive": alive}


STUDIES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    study.__name__: study for study in (ready, idle, load, health, kill, schema, hostile)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", choices=STUDIES)
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=5, help="requests of the idle study")
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=500, help="to /health")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--examples", type=int, default=300, help="of each operation that schemathesis makes up")
    parser.add_argument("--files", type=int, default=200)
    options = parser.parse_args()
    for name in options.studies:
        result = STUDIES[name](options)
        print(json.dumps({"study": name, "load": os.getloadavg()[0], **result}), flush=True)


if __name__ == "__main__":
    main()
