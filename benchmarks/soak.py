"""Does memory grow while training data is read? Many batches by worker processes, and the memory that they hold on the way.

    python benchmarks/soak.py PLACE --batches 10000 --workers 2

Prints one JSON line for each tenth of the way: batches, megabytes of this process and of all its workers, batches a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import psutil

from noisereel.data.mix import Mix, prefetch
from noisereel.worlds.pools import Pools


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", help="a folder of videos, or anything that --data takes")
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shape", type=int, nargs=3, default=(9, 32, 32), help="frames, height, width")
    parser.add_argument("--fps", type=float, default=8.0)
    options = parser.parse_args()
    pools = Pools.open(options.place, shape=tuple(options.shape), fps=options.fps)
    mix = Mix(video=pools.video, images=pools.images, images_per_clip=1, batch=options.batch)
    begun, every = time.monotonic(), max(1, options.batches // 10)
    for number, _ in enumerate(prefetch(mix, start=0, stop=options.batches, workers=options.workers), start=1):
        if number % every == 0 or number == min(every // 10, options.batches):
            print(json.dumps({"batches": number, **memory(), "per_second": round(number / (time.monotonic() - begun), 1)}))
            sys.stdout.flush()


def memory() -> dict[str, float]:
    """Megabytes that nobody else shares, which is what grows when something leaks."""
    me = psutil.Process()
    own, *workers = [process.memory_full_info().uss / 1e6 for process in (me, *me.children(recursive=True))]
    return {"own": round(own, 1), "workers": round(sum(workers), 1), "processes": 1 + len(workers)}


if __name__ == "__main__":
    main()
