"""The first bad module is found inside any nesting, and any kind of output."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisereel.training.blame import first_bad_module


@dataclass
class Answer:
    value: Tensor


class Spoils(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> object:
        bad = x * torch.inf
        return {"tuple": (x, [bad]), "dict": {"a": bad}, "dataclass": Answer(bad), "tensor": bad}[self.kind]


class Net(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.spoils, self.last = nn.Linear(2, 2), nn.Sequential(Spoils(kind)), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.spoils(self.first(x))
        return self.last(x)


def test_every_kind_of_output_is_searched() -> None:
    for kind in ("tensor", "tuple", "dict", "dataclass"):
        net = Net(kind)
        found = first_bad_module({"net": net}, lambda net=net: net(torch.ones(1, 2)))
        assert found == "the first module with a bad output is net.spoils.0"


def test_no_hooks_stay_behind_and_health_is_said() -> None:
    net = nn.Linear(2, 2)
    found = first_bad_module({"net": net}, lambda: net(torch.ones(1, 2)).sum().backward())
    assert found == "every output and gradient was finite when the step was run again"
    assert not net._forward_hooks


def test_a_part_may_be_a_single_module() -> None:
    net = nn.Linear(2, 2)
    nn.init.constant_(net.bias, torch.nan)
    assert first_bad_module({"vae": net}, lambda: net(torch.ones(1, 2))).endswith(" is vae")
