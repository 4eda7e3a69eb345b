"""Names of weights in someone else's checkpoint and in ours, as data that reads in both directions.

>>> rules = [
...     Rule("patch.{p}", "patch_embed.proj.{p}"),
...     Rule(
...         "blocks.{i}.attention.qkv.{p}",
...         ["layers.{i}.attn1.to_q.{p}", "layers.{i}.attn1.to_k.{p}", "layers.{i}.attn1.to_v.{p}"],
...         joined(3),
...     ),
...     *under("blocks.{i}.mlp", "layers.{i}.ff.net", [Rule("0.{p}", "0.proj.{p}"), Rule("2.{p}", "2.{p}")]),
... ]
>>> names = KeyMap(rules)
>>> names.theirs_of("blocks.7.mlp.0.bias")
('layers.7.ff.net.0.proj.bias',)
>>> peer = {f"layers.0.attn1.to_{x}.bias": torch.full((2,), float(n)) for n, x in enumerate("qkv")}
>>> ours = names.to_ours(peer)
>>> ours["blocks.0.attention.qkv.bias"].tolist()
[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
>>> sorted(names.to_theirs(ours)) == sorted(peer)
True

A name in braces stands for a part of a name, the same on both sides: ``{i}`` to ``{n}`` for a number, ``{rest}`` for
anything, every other for anything without a dot. The first rule that fits a name is the one that counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

Tensors = Sequence[Tensor]
_FIELD = re.compile(r"\{(\w+)\}")
_SHOWN = 3  # names that an error shows of each kind


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to the tensors of a rule on the way here, and its exact inverse. Both must work on the meta device."""

    to_ours: Callable[[Tensors], Tensors]
    to_theirs: Callable[[Tensors], Tensors]

    @property
    def inverse(self) -> Change:
        """The same change with the two sides exchanged."""
        return Change(to_ours=self.to_theirs, to_theirs=self.to_ours)


same = Change(to_ours=lambda tensors: tensors, to_theirs=lambda tensors: tensors)


def joined(parts: int | Sequence[int], dim: int = 0) -> Change:
    """Several tensors of theirs are one of ours: ``parts`` equal ones, or ones of the given sizes."""

    def split(tensors: Tensors) -> Tensors:
        (whole,) = tensors
        if isinstance(parts, int):
            return whole.chunk(parts, dim)
        return whole.split(list(parts), dim)

    return Change(to_ours=lambda tensors: [torch.cat(list(tensors), dim)], to_theirs=split)


def parted(parts: int | Sequence[int], dim: int = 0) -> Change:
    """One tensor of theirs is several of ours."""
    return joined(parts, dim).inverse


def reordered(order: Sequence[int], dim: int = 0) -> Change:
    """Equal blocks along ``dim`` come in another order: our block n is their block ``order[n]``."""
    back = sorted(range(len(order)), key=lambda n: order[n])

    def by(order: Sequence[int]) -> Callable[[Tensors], Tensors]:
        def pick(tensors: Tensors) -> Tensors:
            blocks = [tensor.chunk(len(order), dim) for tensor in tensors]
            return [torch.cat([of[n] for n in order], dim) for of in blocks]

        return pick

    return Change(to_ours=by(order), to_theirs=by(back))


def rearranged(theirs: str, ours: str, **sizes: int) -> Change:
    """The same numbers in another shape, in the language of einops.

    A 1x1 convolution as a linear layer is ``rearranged("o i 1 1", "o i")``; a patch embedding is
    ``rearranged("o c t h w", "o (t h w c)", t=1, h=2, w=2)``.
    """

    def by(pattern: str) -> Callable[[Tensors], Tensors]:
        return lambda tensors: [rearrange(tensor, pattern, **sizes) for tensor in tensors]

    return Change(to_ours=by(f"{theirs} -> {ours}"), to_theirs=by(f"{ours} -> {theirs}"))


def constant(value: Tensor) -> Change:
    """A tensor that only we keep, such as a latent's mean that the peer keeps in its configuration; their side is ``()``."""

    def check(tensors: Tensors) -> Tensors:
        (ours,) = tensors
        if not ours.is_meta and not torch.equal(ours, value.to(ours)):
            raise ValueError("a number that the other checkpoint keeps in its configuration was changed since it was opened")
        return []

    return Change(to_ours=lambda tensors: [value], to_theirs=check)


class Rule:
    """Which names belong together; one on each side, or several on either with a change that joins or parts them."""

    def __init__(self, ours: str | Sequence[str], theirs: str | Sequence[str], change: Change = same) -> None:
        self.ours = (ours,) if isinstance(ours, str) else tuple(ours)
        self.theirs = (theirs,) if isinstance(theirs, str) else tuple(theirs)
        self.change = change
        assert len({frozenset(_FIELD.findall(pattern)) for pattern in self.ours + self.theirs}) == 1, (
            f"both sides of a rule have the same parts in braces: {self.ours} and {self.theirs}"
        )

    def __repr__(self) -> str:
        return f"Rule({', '.join(self.ours)} <-> {', '.join(self.theirs)})"


def under(ours: str, theirs: str, rules: Sequence[Rule]) -> list[Rule]:
    """The same rules below a prefix on each side."""

    def below(prefix: str, names: Sequence[str]) -> list[str]:
        return [f"{prefix}.{name}" if prefix else name for name in names]

    return [Rule(below(ours, rule.ours), below(theirs, rule.theirs), rule.change) for rule in rules]


class KeyMap:
    """An ordered list of rules, read in either direction."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)

    def theirs_of(self, ours: str) -> tuple[str, ...]:
        """Their names for what a name of ours holds, or for what it is a part of.

        Raises:
            ValueError: no rule knows the name.
        """
        return self._ours.find(ours)[2]

    def to_ours(self, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our tensors by our names.

        Raises:
            ValueError: a name that no rule knows, or part of what belongs together.
        """
        return dict(self._convert(theirs, self._theirs, lambda rule: rule.change.to_ours))

    def to_theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their tensors by their names.

        Raises:
            ValueError: as ``to_ours``.
        """
        return dict(self._convert(ours, self._ours, lambda rule: rule.change.to_theirs))

    def expected(self, module: nn.Module) -> dict[str, Tensor]:
        """What their checkpoint of this module must hold: names and shapes, on the meta device."""
        return self.to_theirs({name: tensor.detach().to("meta") for name, tensor in _tensors(module).items()})

    def load(self, module: nn.Module, theirs: Mapping[str, Tensor], where: str | Path) -> None:
        """Fill a module from their tensors; nothing is changed unless every name and shape fits.

        ``theirs`` may read its tensors only when asked: they are copied one group at a time.

        Raises:
            ValueError: missing, unexpected or mis-shaped tensors, in one line that names the first of each.
        """
        check_names(self.expected(module), theirs, where)
        own = _tensors(module)
        with torch.no_grad():
            for name, value in self._convert(theirs, self._theirs, lambda rule: rule.change.to_ours):
                own.pop(name).copy_(value)
        assert not own, f"no rule fills {sorted(own)[:_SHOWN]}"

    def _convert(
        self, tensors: Mapping[str, Tensor], side: _Side, change: Callable[[Rule], Callable[[Tensors], Tensors]]
    ) -> Iterator[tuple[str, Tensor]]:
        for rule, names, others in self._groups(tensors, side):
            yield from zip(others, change(rule)([tensors[name] for name in names]), strict=True)

    def _groups(self, names: Mapping[str, Tensor], side: _Side) -> Iterator[tuple[Rule, tuple[str, ...], tuple[str, ...]]]:
        """The rules that apply to the names of one side: the rule, its names there, its names on the other side."""
        seen: set[tuple[str, ...]] = set()
        for name in names:
            rule, group, others = side.find(name)
            if group in seen:
                continue
            seen.add(group)
            if lacking := [other for other in group if other not in names]:
                raise ValueError(f"{name} belongs together with {_first(lacking)}, not given")
            yield rule, group, others
        # What only the other side keeps is made from nothing.
        yield from ((rule, (), other) for rule, other in side.of_nothing)

    @cached_property
    def _ours(self) -> _Side:
        return _Side([(rule, rule.ours, rule.theirs) for rule in self.rules], "of ours")

    @cached_property
    def _theirs(self) -> _Side:
        return _Side([(rule, rule.theirs, rule.ours) for rule in self.rules], "of theirs")


class _Side:
    """The rules seen from one side."""

    def __init__(self, rules: Sequence[tuple[Rule, tuple[str, ...], tuple[str, ...]]], whose: str) -> None:
        self.whose = whose
        self.of_nothing = [(rule, other) for rule, own, other in rules if not own]
        self._patterns = [(_regex(pattern), rule, own, other) for rule, own, other in rules for pattern in own]

    def find(self, name: str) -> tuple[Rule, tuple[str, ...], tuple[str, ...]]:
        """The first rule that fits a name, with the names it binds on this side and on the other."""
        for regex, rule, own, other in self._patterns:
            if match := regex.fullmatch(name):
                parts = match.groupdict()
                return rule, tuple(one.format(**parts) for one in own), tuple(one.format(**parts) for one in other)
        raise ValueError(f"no rule knows the name {name} {self.whose}")


def check_names(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str | Path) -> None:
    """Refuse tensors whose names or shapes are not those expected, in one line.

    ``found`` may know the shapes without reading, see ``folder.Shards``.

    Raises:
        ValueError: names the first few that are missing, unexpected or mis-shaped.
    """
    shape_of = getattr(found, "shape", lambda name: tuple(found[name].shape))
    shapes = {name: (shape_of(name), tuple(expected[name].shape)) for name in expected.keys() & found.keys()}
    wrong = [f"{name} of {list(has)} for {list(wants)}" for name, (has, wants) in sorted(shapes.items()) if has != wants]
    found_wrong = {
        "lacks": sorted(expected.keys() - found.keys()),
        "has the unexpected": sorted(found.keys() - expected.keys()),
        "has the wrong size": wrong,
    }
    problems = [f"{what} {_first(names)}" for what, names in found_wrong.items() if names]
    if problems:
        raise ValueError(f"{where} {', and '.join(problems)}: its weights and its config.json do not belong together")


def _first(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def _regex(pattern: str) -> re.Pattern[str]:
    kinds = {"rest": ".+"} | dict.fromkeys("ijklmn", r"\d+")
    pieces = _FIELD.split(pattern)  # text, field, text, field, ..., text
    seen: set[str] = set()
    for place in range(1, len(pieces), 2):
        field = pieces[place]
        pieces[place] = f"(?P={field})" if field in seen else f"(?P<{field}>{kinds.get(field, '[^.]+')})"
        seen.add(field)
    return re.compile("".join(piece if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)))
