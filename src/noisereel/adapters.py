"""Low-rank adapters (Hu et al. 2021) on any network with ``blocks``, by PEFT: few weights, trained and kept by themselves.

In a file they are named as diffusers and PEFT name them: ``<part>.<layer>.lora_A.weight`` and ``lora_B``, with PEFT's
configuration in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = "pytorch_lora_weights.safetensors"
NOTE = "lora_adapter_metadata"  # diffusers' key
UP = ".lora_B.weight"


def add(net: nn.Module, rank: int, *, seed: int = 0, name: str = "default") -> list[nn.Parameter]:
    """Put an adapter of this rank on every linear layer of the network's blocks; at birth it changes nothing.

    Returns its parameters.

    Raises:
        ValueError: a rank below 1, or PEFT is not installed.
    """
    if rank < 1:
        raise ValueError(f"the rank of an adapter is 1 or more, not {rank}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _inject(net, layers(net), {"r": rank, "lora_alpha": rank}, name)
    return [parameter for key, parameter in net.named_parameters() if f".{name}." in key and "lora_" in key]


def layers(net: nn.Module) -> list[str]:
    """The names of the layers that are adapted: linear ones in the blocks that compute a product and nothing more."""
    blocks: Any = getattr(net, "blocks", ())
    inside = {id(module) for block in blocks for module in block.modules()}
    return [name for name, module in net.named_modules() if type(module) is nn.Linear and id(module) in inside]


def save(path: Path, nets: Mapping[str, nn.Module], *, name: str = "default") -> Path:
    """Write the adapters of the networks, by the names of their parts, into one safetensors file."""
    peft = _peft()
    tensors: dict[str, Tensor] = {}
    notes: dict[str, Any] = {}
    for part, net in nets.items():
        state = peft.get_peft_model_state_dict(net, adapter_name=name)
        tensors |= {f"{part}.{key}": value.detach().cpu().contiguous() for key, value in state.items()}
        configs: Any = net.peft_config
        notes |= {f"{part}.{key}": value for key, value in configs[name].to_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.part")
    save_file(tensors, half, metadata={"format": "pt", NOTE: json.dumps(notes, default=sorted, sort_keys=True)})
    half.replace(path)
    return path


def load(path: Path, parts: Mapping[str, nn.Module], *, weight: float = 1.0, name: str = "default") -> list[nn.Module]:
    """Put the adapters of a file on the parts they are for, at this weight; the networks that have one now.

    Raises:
        ValueError: no such file, not one of adapters, or adapters of another network.
    """
    tensors, notes = _read(path)
    found = {
        part: {key.removeprefix(f"{part}."): t for key, t in tensors.items() if key.startswith(f"{part}.")} for part in parts
    }
    known = sum(map(len, found.values()))
    if not tensors or known < len(tensors):
        strange = next((key for key in tensors if not any(key.startswith(f"{part}.") for part in parts)), "nothing")
        raise ValueError(f"{path} holds {strange}; this model has adapters on {', '.join(parts)}: it is for another model")
    for part, state in found.items():
        if state:
            _fill(parts[part], state, notes.get(f"{part}.lora_alpha"), path, name)
            _scale(parts[part], weight, name)
    return [parts[part] for part, state in found.items() if state]


def fuse(net: nn.Module) -> None:
    """Add every adapter of the network to its weights, at its weight, and take it away."""
    for key, layer in _adapted(net):
        layer.merge()
        parent, _, child = key.rpartition(".")
        setattr(net.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(net, "peft_config"):
        del net.peft_config


def _fill(net: nn.Module, state: Mapping[str, Tensor], alpha: float | None, path: Path, name: str) -> None:
    named = sorted(key.removesuffix(UP) for key in state if key.endswith(UP))
    missing = [key for key in named if key not in layers(net)]
    if missing or len(state) != 2 * len(named):
        raise ValueError(f"{path} adapts {(missing or sorted(state))[0]}, which this network has not: it is for another model")
    for key in named:
        width, out = state[f"{key}.lora_A.weight"].shape[1], state[key + UP].shape[0]
        weight: Any = net.get_submodule(key).weight
        if (out, width) != tuple(weight.shape):
            shape = f"{key} of {[out, width]}, not {list(weight.shape)}"
            raise ValueError(f"{path} adapts {shape}: it is for another size of model")
    rank = state[named[0] + UP].shape[1]
    _inject(net, named, {"r": rank, "lora_alpha": alpha or rank}, name)
    _peft().set_peft_model_state_dict(net, dict(state), adapter_name=name)


def _scale(net: nn.Module, weight: float, name: str) -> None:
    for _, layer in _adapted(net):
        layer.set_scale(name, weight)


def _adapted(net: nn.Module) -> list[tuple[str, Any]]:
    """The layers with adapters, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(key, module) for key, module in net.named_modules() if isinstance(module, BaseTunerLayer)]


def _inject(net: nn.Module, targets: list[str], ranks: dict[str, Any], name: str) -> None:
    if hasattr(net, "peft_config"):
        raise ValueError("this network has an adapter already: fuse it first")
    peft = _peft()
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=targets, **ranks), net, adapter_name=name)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"there is no file of adapters {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads((file.metadata() or {}).get(NOTE, "{}"))  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error})") from error


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError("adapters need PEFT: pip install noisereel[lora]") from error
    return peft
