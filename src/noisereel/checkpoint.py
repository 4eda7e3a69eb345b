"""Models and training state on disk: written whole or not at all, read strictly, and never a pickle.

model_index.json                              what the model is: its class, its versions, the call that rebuilds it
README.md                                     the model card
<part>/config.json                            what the part was built from
<part>/diffusion_pytorch_model.safetensors    its weights
<part>/extra_state.json                       what it keeps besides tensors, such as a vocabulary
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

INDEX = "model_index.json"
CARD = "README.md"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
EXTRA = "extra_state.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def save(
    folder: str | Path,
    parts: Mapping[str, nn.Module],
    index: Mapping[str, Any],
    *,
    dtype: torch.dtype | None = None,
    card: str = "",
) -> None:
    """Write a model folder, replacing the checkpoint that was there; other files beside it are kept.

    Args:
        parts: the modules, by the name of their folder; a module's ``config`` (mapping or dataclass) is written if it has one.
        index: goes to ``model_index.json`` beside the class of each part.
        dtype: what floating-point weights are stored in; their own type when None.

    Raises:
        ValueError: the folder holds something that is not a checkpoint, or weights are not finite in ``dtype``.
        OSError: the disk refuses; the old checkpoint is still whole.
    """
    folder = Path(folder)
    refuse_strangers(folder)
    states = {name: split_state(module) for name, module in parts.items()}
    classes = {name: [type(module).__module__, type(module).__qualname__] for name, module in parts.items()}
    with whole(folder) as new:
        keep_others(folder, new, parts)
        write_json(new / INDEX, {"_class_name": "TextToVideo", **index, **classes})
        if card:
            (new / CARD).write_text(card, encoding="utf-8")
        for name, (tensors, extra) in states.items():
            (new / name).mkdir()
            write_json(new / name / CONFIG, _config(parts[name]))
            write_tensors(new / name / WEIGHTS, _shipped(tensors, dtype, name))
            if extra:
                write_json(new / name / EXTRA, extra)


def load(folder: str | Path, parts: Mapping[str, nn.Module]) -> None:
    """Fill the parts from a model folder; nothing is changed unless everything fits.

    Raises:
        ValueError: a file is missing, truncated or a pickle; a name is missing or unexpected; a shape differs; a weight is not
            finite.
    """
    folder = Path(folder)
    read_index(folder)
    states = {name: _read_part(folder, name, module) for name, module in parts.items()}
    for name, (tensors, extra) in states.items():
        fill(parts[name], tensors, extra)


def read_index(folder: str | Path) -> dict[str, Any]:
    """The ``model_index.json`` of a model folder.

    Raises:
        ValueError: no such folder, or it is not a model folder.
    """
    folder = Path(folder)
    _settle(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no checkpoint folder {folder}: name a folder that holds {INDEX}")
    refuse_pickles(folder / INDEX)
    return read_json(folder / INDEX)


def save_state(folder: str | Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write tensors, bit for bit, and JSON values as one folder."""
    with whole(folder) as new:
        write_tensors(new / "state.safetensors", tensors)
        write_json(new / "state.json", values)


def load_state(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save_state`` wrote.

    Raises:
        ValueError: a file is missing or truncated.
    """
    folder = Path(folder)
    values = read_state_values(folder)
    return read_tensors(folder / "state.safetensors"), values


def read_state_values(folder: Path) -> dict[str, Any]:
    """The JSON values alone."""
    _settle(folder)
    return read_json(folder / "state.json")


@contextmanager
def whole(folder: str | Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder`` when the block ends without an error.

    A crash at any moment leaves the old folder or the new one; the next reader or writer tidies up what lies beside it.
    """
    folder = Path(folder)
    _settle(folder)
    new, old = beside(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            _flush(path)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        _settle(folder)


def split_state(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A module's state: its tensors, and what it keeps besides them (``get_extra_state``)."""
    state = module.state_dict()
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in state.items() if key not in tensors}


def fill(module: nn.Module, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
    """The inverse of ``split_state``, for a state that was found to fit."""
    module.load_state_dict({**tensors, **extra})


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: Path) -> None:
    """Refuse tensors whose names or shapes are not those expected."""
    advice = "it was made by another configuration; open it with its own"
    for what, names in (("lacks", expected.keys() - found.keys()), ("holds an unexpected", found.keys() - expected.keys())):
        if names:
            first, *others = sorted(names)
            raise ValueError(f"{where} {what} {first}" + (f" and {len(others)} more" if others else "") + f": {advice}")
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            shapes = f"{list(found[name].shape)}, not {list(tensor.shape)}"
            raise ValueError(f"{where} holds {name} of shape {shapes}: {advice}")


def check_finite(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Refuse tensors that hold infinities or NaN."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{where} holds values that are not finite in {name}: its training failed; use an earlier one")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: the file is missing or not whole.
    """
    refuse_pickles(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch or save it again") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as they are; those that share memory are written out once each."""
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # Safetensors refuses aliases, such as tied weights.
        apart[name] = plain.clone() if plain.untyped_storage().data_ptr() in seen else plain
        seen.add(apart[name].untyped_storage().data_ptr())
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(apart, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    path.chmod(mode)  # safetensors lets only the owner read, which would make an installed model useless to others


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: the file is missing or not whole.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: fetch or save the checkpoint again") from None
    except ValueError as error:
        raise ValueError(f"{path} is not whole JSON ({error}): fetch or save it again") from None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object as JSON that reads well."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_part(folder: Path, name: str, module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of a part, found to fit the module."""
    where = folder / name
    if not where.is_dir():
        there = ", ".join(sorted(entry.name for entry in folder.iterdir() if entry.is_dir())) or "no folders"
        raise ValueError(f"{folder} has no part {name!r}, it has {there}: open it with the recipe it was trained by")
    expected, extra = split_state(module)
    tensors = read_tensors(where / WEIGHTS)
    check_fit(expected, tensors, where)
    check_finite(tensors, where)
    stored = read_json(where / EXTRA) if extra else {}
    if set(stored) != set(extra):
        raise ValueError(f"{where / EXTRA} should hold {', '.join(sorted(extra))}: fetch or save the checkpoint again")
    return tensors, stored


def _config(module: nn.Module) -> dict[str, Any]:
    config = getattr(module, "config", {})
    values: Any = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    assert isinstance(values, Mapping), f"the config of {type(module).__name__} is neither a mapping nor a dataclass"
    return {"_class_name": type(module).__name__, **values}


def _shipped(tensors: Mapping[str, Tensor], dtype: torch.dtype | None, name: str) -> dict[str, Tensor]:
    """The weights as they go to disk, finite after the conversion too: half precision ends at 65504."""
    cast = {key: value.to(dtype) if dtype and value.is_floating_point() else value for key, value in tensors.items()}
    check_finite(cast, f"{name} as {dtype}" if dtype else name)
    return cast


def refuse_pickles(wanted: Path) -> None:
    """Explain a missing file, and name the pickle that lies in its place."""
    if wanted.is_file():
        return
    near = [path for path in sorted(wanted.parent.rglob("*")) if path.suffix in PICKLES] if wanted.parent.is_dir() else []
    if near:
        raise ValueError(f"{near[0]} is a pickle, which can run code and is never opened: convert it to safetensors")
    raise ValueError(f"{wanted} is missing: fetch or save the checkpoint again, or name another folder")


def refuse_strangers(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the checkpoint")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).exists():
        raise ValueError(f"{folder} holds other files and no {INDEX}: name a new or empty folder for the checkpoint")


def keep_others(folder: Path, new: Path, parts: Collection[str]) -> None:
    """Copy what is not a part of the old checkpoint or of the new (notes, ``.git``), so that replacing it loses nothing."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not (entry / WEIGHTS).exists() and entry.name not in parts:
            shutil.copytree(entry, new / entry.name, symlinks=True)
        elif entry.is_file() and entry.name != INDEX:
            shutil.copy2(entry, new / entry.name)


def beside(folder: Path) -> tuple[Path, Path]:
    """Where a folder is made, and where its predecessor waits while it is swapped."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def _settle(folder: Path) -> None:
    """Finish a swap that a crash cut in two: without a folder its predecessor returns, with one it goes."""
    _, old = beside(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    """Make sure that a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name != "posix":  # only POSIX systems open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
