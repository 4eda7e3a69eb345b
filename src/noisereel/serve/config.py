"""How a server is set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``noisereel serve`` was told; the defaults suit one machine and a few people."""

    data: Path
    models: tuple[tuple[str, str], ...] = (("default", "default"),)  # what each is called, and where it is
    devices: tuple[str | None, ...] = (None,)  # one worker process for each; None is the best there is
    engine: str = "local"  # where the workers are: "local" processes, or deployments of "ray" Serve
    ray: str | None = None  # the address of Ray's cluster; one of this machine is started if there is none
    queue: int = 100  # jobs that wait at most
    per_key: int = 20  # jobs of one key that wait or run at most
    batch: int = 4  # compatible jobs sampled together at most
    attempts: int = 3  # how often a worker may die of a job
    patience: float = 60.0  # seconds that a worker may be silent
    step_limit: float = 1800.0  # seconds that a step of sampling, or opening what a job begins with, may take
    keep_days: float = 7.0
    disk: float = 10e9  # bytes of results that are kept
    signing: tuple[str, str] | None = None  # certificates and key that content credentials are signed with
    longest: int = 512  # frames of a video at most
    most_steps: int = 1000
    enlarged: int = 2**25  # pixels of an upscaled video at most, all its frames together
    enlarged_frame: int = 2**20  # and of one of its frames
    body: int = 32 * MEGABYTE  # of a request at most
    listeners: int = 200  # open streams of events at most

    @property
    def results(self) -> Path:
        return self.data / "results"

    @property
    def inputs(self) -> Path:
        return self.data / "inputs"

    @property
    def database(self) -> Path:
        return self.data / "jobs.sqlite"
