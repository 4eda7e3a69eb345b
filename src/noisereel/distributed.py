"""Training by many processes, applied from outside: what is sharded, what is agreed on, and checkpoints of shards.

Started by ``torchrun``. A batch is shared out among the processes (``Mix.rank`` and ``Mix.world``), and what is random in it
belongs to its samples, so that the number of processes changes nothing but the order of sums. Networks with ``blocks`` are
sharded by FSDP2; the rest (autoencoders, priors, encoders in training) is small, and its gradients are averaged instead.
"""

from __future__ import annotations

import os
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from noisereel import checkpoint
from noisereel.types import Batch

STATE = "state.json"
LOST = re.compile(r"gloo|nccl|connection|peer|broken pipe|timed out|timeout", re.IGNORECASE)  # in what collectives raise
Draws = Callable[[int], Batch]


class Alone:
    """One process, which has everything and agrees with itself."""

    rank, world = 0, 1

    def shared(self, data: Draws) -> Draws:
        """This process's share of each draw."""
        return data

    def spread(self, parts: Mapping[str, nn.Module], groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Shard the parts that hold anything of ``groups``; the groups, of the parameters that there are now."""
        return groups

    def level(self) -> None:
        """Average the gradients that are not sharded, and the buffers beside them."""

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes."""
        return values

    def whole(self, value: Tensor) -> Tensor:
        """A tensor that may lie in shards, as one."""
        return value

    def any(self, *flags: bool) -> Sequence[bool]:
        """Whether any process says so, of each flag."""
        return flags

    def save(self, path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all."""
        checkpoint.save_state(path, tensors, values)

    def load(self, path: Path, like: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What any number of processes saved, each tensor in the shards of its namesake in ``like``.

        Raises:
            ValueError: a file is missing or truncated.
        """
        values = checkpoint.read_state_values(path)
        return (read_shards(path, values["shards"], {}) if "shards" in values else checkpoint.load_state(path)[0]), values

    def finish(self) -> None:
        """Wait for a checkpoint that is being written."""


class Ranks:
    """One of several processes; its methods are those of ``Alone``.

    Args:
        device: what this process computes on.
        within: how many processes share one copy of the weights, their averages and their optimiser; between such groups only
            gradients travel (hybrid sharding). All of them when 0.
        asynchronous: whether training goes on while a checkpoint is written, from a copy in the memory of the host.
    """

    def __init__(self, device: torch.device, *, within: int = 0, asynchronous: bool | None = None) -> None:
        self.rank, self.world, self.device = dist.get_rank(), dist.get_world_size(), device
        within = within or self.world
        if within < 1 or self.world % within:
            raise ValueError(f"{self.world} processes cannot share weights in groups of {within}: give a divisor")
        axes = {"copies": self.world // within, "shards": within}
        if within == self.world:
            del axes["copies"]
        self._mesh, self._host_mesh = (
            init_device_mesh(kind, tuple(axes.values()), mesh_dim_names=tuple(axes)) for kind in (device.type, "cpu")
        )
        self._writers = dist.new_group(backend="gloo")  # of its own, for writing goes on beside training
        self._background = device.type != "cpu" if asynchronous is None else asynchronous
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._replicated: list[nn.Module] = []
        self._moving: list[nn.Parameter] = []

    def shared(self, data: Draws) -> Draws:
        share = getattr(data, "shared", None)
        if share is None:
            raise ValueError(f"{type(data).__name__} cannot be shared by {self.world} processes: give training data as a Mix")
        return share(self.rank, self.world)

    def spread(self, parts: Mapping[str, nn.Module], groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        moving = {id(parameter) for group in groups for parameter in group["params"]}
        learning = [part for part in parts.values() if any(id(p) in moving for p in part.parameters())]
        self._replicated, self._moving = learning, [p for group in groups for p in group["params"]]
        if not all(hasattr(part, "blocks") for part in learning):
            return groups
        before = {id(p): (part, name) for part in learning for name, p in part.named_parameters()}
        for part in learning:
            self._shard(part)
        self._replicated, self._moving = [], []
        # Sharding puts new parameters in the place of the old ones.
        return [group | {"params": [_parameter(*before[id(p)]) for p in group["params"]]} for group in groups]

    def level(self) -> None:
        ours = [p.grad for p in self._moving if p.grad is not None]
        ours += [buffer for part in self._replicated for buffer in part.buffers() if buffer.is_floating_point()]
        if ours:
            means = self.mean(torch.cat([tensor.flatten() for tensor in ours])).split([tensor.numel() for tensor in ours])
            for tensor, mean in zip(ours, means, strict=True):
                tensor.copy_(mean.view_as(tensor))

    def mean(self, values: Tensor) -> Tensor:
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def whole(self, value: Tensor) -> Tensor:
        return value.full_tensor() if hasattr(value, "full_tensor") else value

    def any(self, *flags: bool) -> Sequence[bool]:
        votes = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes.tolist()]

    def save(self, path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.finish()
        values = {**values, "shards": self.world}
        if self._background:
            copies = {name: self._copied(tensor) for name, tensor in tensors.items()}
            self._writing = self._pool.submit(self._write, path, copies, values)
        else:
            self._write(path, tensors, values)

    def load(self, path: Path, like: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        values = checkpoint.read_state_values(path)
        return read_shards(path, values.get("shards", 1), like), values

    def finish(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _shard(self, part: nn.Module) -> None:
        """Every block for itself, and what is left in one piece; each is gathered when it is needed and let go after it."""
        from torch.distributed.fsdp import fully_shard

        # Some networks answer with a view, which nothing here writes to: FSDP2 warns of those who might.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
        for module in (*part.blocks, part):  # type: ignore[misc]
            fully_shard(module, mesh=self._mesh, reshard_after_forward=True)

    def _write(self, path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """All processes into one folder, which the first makes, and puts in its place when everything is in it."""
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        place = checkpoint.whole(path) if self.rank == 0 else nullcontext(checkpoint.beside(path)[0])
        with place as new:
            dist.barrier(self._writers)
            writer = HuggingFaceStorageWriter(str(new), save_distributed=True)  # safetensors, where others would pickle
            try:
                save(dict(tensors), storage_writer=writer, process_group=self._writers)
            except CheckpointException as error:  # no Exception, but a BaseException
                raise OSError(f"{path} could not be written: {next(iter(error.failures.values()), error)}") from error
            if self.rank == 0:
                checkpoint.write_json(new / STATE, values)
        dist.barrier(self._writers)

    def _copied(self, tensor: Tensor) -> Tensor:
        """In the memory of the host, where training does not reach it."""
        from torch.distributed.tensor import DTensor

        if not isinstance(tensor, DTensor):
            return tensor.detach().to("cpu", copy=True)
        local = tensor.to_local().detach().to("cpu", copy=True)
        return DTensor.from_local(
            local, self._host_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
        )


Processes = Alone | Ranks


@contextmanager
def joined(device: torch.device, *, within: int = 0) -> Iterator[Processes]:
    """The processes that ``torchrun`` started together, or this one alone; that one is lost is told in a line.

    Raises:
        ValueError: ``within`` does not divide them.
        ConnectionError: another process is gone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Alone()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, world = next(rendezvous("env://"))
    meeting = PrefixStore(meet(store, rank, world), store)
    dist.init_process_group("gloo" if device.type == "cpu" else None, store=meeting, rank=rank, world_size=world)
    try:
        yield Ranks(device, within=within)
        dist.destroy_process_group()
    except RuntimeError as error:
        if not LOST.search(str(error)):
            raise
        what = str(error).strip().splitlines()[0]
        raise ConnectionError(
            f"process {rank} of {world} stops, for another is gone ({what}); the same command goes on from the last checkpoint"
        ) from error


def meet(store: Store, rank: int, world: int) -> str:
    """A name for this meeting of processes that none before had, agreed on by all of them.

    ``torchrun`` keeps its store when it starts killed processes again, with the addresses of those that are gone in it, and how
    often it did so is not the same number on all machines. So the first answers each of the others by a word of its own.
    """
    word = secrets.token_hex(8)
    if rank > 0:
        store.set(f"here/{rank}", word)
        name = store.get(f"name/{word}").decode()
        store.set(f"{name}/{rank}", "")
        return name
    while not store.check([f"{word}/{other}" for other in range(1, world)]):
        for other in range(1, world):
            store.set(f"name/{store.get(f'here/{other}').decode()}", word)
        time.sleep(0.05)
    return word


def own(device: torch.device) -> torch.device:
    """Of several devices of a kind, the one of this process."""
    return device if device.type == "cpu" else torch.device(device.type, int(os.environ.get("LOCAL_RANK", device.index or 0)))


def read_shards(folder: Path, count: int, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a folder of safetensors, whole or in shards as ``like`` has them.

    Raises:
        ValueError: a file is missing or truncated.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    files = len(list(folder.glob("*.safetensors")))
    if files != count:
        raise ValueError(f"{folder} has {files} files of tensors, not {count}: fetch or save it again")
    reader = HuggingFaceStorageReader(str(folder))
    try:
        saved = reader.read_metadata().state_dict_metadata
        tensors = {name: _room(facts, like.get(name)) for name, facts in saved.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one process is alone
            load(tensors, storage_reader=reader, no_dist=not like)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder} holds a safetensors file that is not whole ({error}): fetch or save it again") from error
    return tensors


def _room(facts: Any, like: Tensor | None) -> Tensor:
    """Where a saved tensor goes; one of another shape is read whole, for whoever compares them."""
    if like is not None and like.shape == facts.size:
        return torch.empty_like(like, dtype=facts.properties.dtype, requires_grad=False)
    return torch.empty(facts.size, dtype=facts.properties.dtype)


def _parameter(part: nn.Module, name: str) -> nn.Parameter:
    return part.get_parameter(name)
