"""Reads and writes the components of a diffusers folder: a configuration and safetensors, whole or in shards.

<component>/config.json                                         its class and what it was built from
<component>/diffusion_pytorch_model.safetensors                 its weights, or
<component>/diffusion_pytorch_model.safetensors.index.json      which shard holds which of them
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from noisereel import checkpoint
from noisereel.pretrained.keymap import KeyMap

Config = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a class of diffusers becomes a module of ours, and how its weights are called there."""

    defaults: Config  # every field that its configuration may have, with the value of one that is absent
    build: Callable[[Config], nn.Module]  # from a configuration with every field; refuses what we cannot express
    names: Callable[[Config], KeyMap]
    current: Callable[[str], str] = str  # today's name of a weight that an older diffusers may have named otherwise


@dataclass(frozen=True, kw_only=True)
class Component:
    """A network of someone else's checkpoint, opened as one of ours."""

    module: Any
    names: KeyMap
    written: Config  # its configuration, as it was found
    config: Config  # the same with every field


def open_component(folder: Path, kinds: Mapping[str, Kind], dtype: torch.dtype = torch.float32) -> Component:
    """A component by its folder, with its weights.

    Raises:
        ValueError: a class that is not among ``kinds``, a configuration field that is not known, or weights that do not fit.
    """
    written = checkpoint.read_json(folder / checkpoint.CONFIG)
    name = str(written.get("_class_name"))
    if name not in kinds:
        raise ValueError(f"{folder} holds a {name}; what can be opened here is {' or '.join(kinds)}")
    config = complete(written, kinds[name].defaults, folder / checkpoint.CONFIG)
    try:
        with unfilled(dtype):
            module = kinds[name].build(config)
    except ValueError as error:
        raise ValueError(f"{folder} cannot be opened: {error}") from error
    names = kinds[name].names(config)
    names.load(module, Renamed(Shards(folder), kinds[name].current), folder)
    return Component(module=module.eval().requires_grad_(False), names=names, written=written, config=config)


def write_component(folder: Path, component: Component, dtype: torch.dtype | None = None) -> None:
    """Write a component as it was found, with the weights it has now."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(folder / checkpoint.CONFIG, dict(component.written))
    state, _ = checkpoint.split_state(component.module)
    theirs = component.names.to_theirs(state)
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in theirs.items()}
    checkpoint.check_finite(cast, folder)
    checkpoint.write_tensors(folder / checkpoint.WEIGHTS, cast)


def complete(written: Config, defaults: Config, where: Path, also: Collection[str] = ()) -> dict[str, Any]:
    """A configuration with every field of ``defaults``; names with a leading underscore are notes and fall away.

    Raises:
        ValueError: a field that is neither in ``defaults`` nor in ``also``: it might change what the weights mean.
    """
    fields = {name: value for name, value in written.items() if not name.startswith("_")}
    if unknown := sorted(set(fields) - set(defaults) - set(also)):
        raise ValueError(f"{where} has the unknown fields {', '.join(unknown)}: it was made by a newer or another program")
    return {**defaults, **fields}


def expect(config: Config, wanted: Config, where: str) -> None:
    """Refuse values that we cannot express, naming the field, its value and the one that would do."""
    for name, value in wanted.items():
        choices = value if isinstance(value, tuple) else (value,)
        if config[name] not in choices:
            legal = " or ".join(map(repr, choices))
            raise ValueError(f"{where} with {name}={config[name]!r} is not supported, only with {legal}")


class Shards(Mapping[str, Tensor]):
    """The tensors of a component, by name; one is read when it is asked for.

    Raises:
        ValueError: no safetensors, only pickles, a shard that is missing or not whole.
    """

    def __init__(self, folder: Path, stem: str = "diffusion_pytorch_model") -> None:
        self.folder = folder
        self._file_of = self._listed(folder / f"{stem}.safetensors")

    def __getitem__(self, name: str) -> Tensor:
        return self._open(self._file_of[name]).get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return tuple(self._open(self._file_of[name]).get_slice(name).get_shape())

    def _listed(self, single: Path) -> dict[str, Path]:
        index = single.with_name(f"{single.name}.index.json")
        if not index.is_file():
            checkpoint.refuse_pickles(single)
            return dict.fromkeys(self._open(single).keys(), single)
        files = {name: single.parent / file for name, file in checkpoint.read_json(index).get("weight_map", {}).items()}
        if missing := sorted({file.name for file in files.values() if not file.is_file()}):
            raise ValueError(f"{self.folder} lacks the shard {', '.join(missing)} that {index.name} names: fetch it again")
        for file in sorted(set(files.values())):
            held = set(self._open(file).keys())
            if lost := sorted(name for name, where in files.items() if where == file and name not in held):
                raise ValueError(f"{file} does not hold {lost[0]}, which {index.name} looks for there: fetch it again")
        return files

    def _open(self, file: Path) -> Any:
        if file not in self._open_files:
            try:
                self._open_files[file] = safe_open(file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{file} is not a whole safetensors file ({error}): fetch or save it again") from error
        return self._open_files[file]

    @cached_property
    def _open_files(self) -> dict[Path, Any]:
        return {}


class Renamed(Mapping[str, Tensor]):
    """Tensors under other names, each read only when it is asked for."""

    def __init__(self, tensors: Shards, new_name: Callable[[str], str]) -> None:
        self._tensors = tensors
        self._old_names = {new_name(name): name for name in tensors}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._old_names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._old_names)

    def __len__(self) -> int:
        return len(self._old_names)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return self._tensors.shape(self._old_names[name])


@contextmanager
def unfilled(dtype: torch.dtype) -> Iterator[None]:
    """Networks built inside have weights of ``dtype`` that hold anything: drawing billions of them takes minutes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with _NoDraws():
            yield
    finally:
        torch.set_default_dtype(before)


class _NoDraws(TorchFunctionMode):
    """Initialisers leave a tensor as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (torch.Tensor.uniform_, torch.Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
