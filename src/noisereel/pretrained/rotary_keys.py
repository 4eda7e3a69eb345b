"""What the key maps of transformers with rotary positions share.

Numbers that turn together are neighbours in the published weights; here they are half a head apart, so that a turn works on
two halves. Queries and keys in another order, both the same, attend as before.
"""

from __future__ import annotations

from noisereel.pretrained.keymap import Change, Tensors, joined, rearranged


def paired(heads: int) -> Change:
    """Rows of weights, or weights of a norm, that belong to ``heads`` heads."""
    return rearranged("(heads half two) ...", "(heads two half) ...", heads=heads, two=2)


def qkv(heads: int) -> Change:
    """Queries, keys and values as one linear layer."""
    turn, join = paired(heads), joined(3)

    def to_ours(tensors: Tensors) -> Tensors:
        q, k, v = tensors
        return join.to_ours([*turn.to_ours([q, k]), v])

    def to_theirs(tensors: Tensors) -> Tensors:
        q, k, v = join.to_theirs(tensors)
        return [*turn.to_theirs([q, k]), v]

    return Change(to_ours=to_ours, to_theirs=to_theirs)
