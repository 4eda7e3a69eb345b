"""Key maps: names and tensors go there and back, and nothing that does not fit gets through."""

import doctest

import pytest
import torch
from torch import nn

from noisereel.pretrained import keymap
from noisereel.pretrained.keymap import KeyMap, Rule, constant, joined, parted, rearranged, reordered, under


class Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"qkv": nn.Linear(4, 12), "shift": nn.Linear(4, 2)}) for _ in range(11))
        self.patch = nn.Linear(3 * 2 * 2, 4)
        self.register_buffer("mean", torch.zeros(3))


MEAN = torch.tensor([1.0, 2.0, 3.0])
RULES = [
    *under(
        "blocks.{i}",
        "layers.{i}",
        [
            Rule("qkv.{p}", ["attn.to_q.{p}", "attn.to_k.{p}", "attn.to_v.{p}"], joined((4, 4, 4))),
            Rule("shift.{p}", "ada.{p}", reordered((1, 0))),
        ],
    ),
    Rule("patch.weight", "proj.weight", rearranged("o c h w", "o (h w c)", h=2, w=2)),
    Rule("patch.{p}", "proj.{p}"),
    Rule("mean", (), constant(MEAN)),
]
NAMES = KeyMap(RULES)


def peer(module: nn.Module) -> dict[str, torch.Tensor]:
    module.get_buffer("mean").copy_(MEAN)
    return NAMES.to_theirs(module.state_dict())


def test_the_documented_example() -> None:
    assert doctest.testmod(keymap).failed == 0


def test_there_and_back_is_exact_and_fills_everything() -> None:
    one, two = Ours(), Ours()
    theirs = peer(one)
    assert len(theirs) == 11 * 8 + 2
    assert theirs["layers.10.attn.to_k.weight"].equal(one.blocks[10]["qkv"].weight[4:8])
    assert theirs["layers.3.ada.bias"].equal(one.blocks[3]["shift"].bias.flip(0))
    assert theirs["proj.weight"][1, 2, 0, 1] == one.patch.weight[1, 1 * 3 + 2]
    NAMES.load(two, theirs, "the checkpoint")
    assert all(two.state_dict()[name].equal(value) for name, value in one.state_dict().items())


def test_the_expected_names_and_shapes_need_no_memory() -> None:
    expected = NAMES.expected(Ours())
    assert expected.keys() == peer(Ours()).keys()
    assert expected["proj.weight"].shape == (4, 3, 2, 2)
    assert expected["proj.weight"].is_meta


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda theirs: theirs.pop("layers.2.attn.to_k.bias"), "lacks layers.2.attn.to_k.bias:"),
        (lambda theirs: theirs.update({"layers.0.attn.to_x.bias": MEAN}), "has the unexpected layers.0.attn.to_x.bias:"),
        (
            lambda theirs: theirs.update({"proj.weight": torch.zeros(4, 3, 1, 1)}),
            r"proj.weight of \[4, 3, 1, 1\] for \[4, 3, 2, 2\]",
        ),
        (lambda theirs: [theirs.pop(f"layers.{n}.ada.bias") for n in range(6)], "layers.2.ada.bias and 3 more"),
    ],
)
def test_what_does_not_fit_is_one_line_and_changes_nothing(spoil, told: str) -> None:
    theirs, module = peer(Ours()), Ours()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    spoil(theirs)
    with pytest.raises(ValueError, match=f"^the file .*{told}") as caught:
        NAMES.load(module, theirs, "the file")
    assert "\n" not in str(caught.value)
    assert all(module.state_dict()[name].equal(value) for name, value in before.items())


def test_a_name_without_a_rule_is_told() -> None:
    with pytest.raises(ValueError, match=r"no rule knows the name blocks\.x\.qkv\.bias of ours"):
        NAMES.theirs_of("blocks.x.qkv.bias")


def test_a_part_of_what_belongs_together_is_refused() -> None:
    with pytest.raises(ValueError, match="belongs together with layers"):
        NAMES.to_ours({"layers.0.attn.to_q.bias": MEAN})


def test_a_changed_constant_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="in its configuration was changed"):
        NAMES.to_theirs({"mean": MEAN + 1})


def test_one_of_theirs_may_be_several_of_ours() -> None:
    names = KeyMap([Rule(["a.{p}", "b.{p}"], "both.{p}", parted((1, 2)))])
    ours = names.to_ours({"both.w": torch.arange(3.0)})
    assert (ours["a.w"].tolist(), ours["b.w"].tolist()) == ([0], [1, 2])
    assert names.to_theirs(ours)["both.w"].tolist() == [0, 1, 2]


def test_a_longer_reordering_has_the_right_inverse() -> None:
    names = KeyMap([Rule("a", "b", reordered((2, 0, 1)))])
    ours = names.to_ours({"b": torch.arange(3.0)})
    assert ours["a"].tolist() == [2, 0, 1]
    assert names.to_theirs(ours)["b"].tolist() == [0, 1, 2]
