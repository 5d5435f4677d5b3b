"""The name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that a wrong one stands for: the same last part, its initials, or few letters apart; else None.

    ``learning_rate`` is ``lr``, ``lr`` is ``optim.lr``, ``intensity`` is ``input.intensity_range`` rather than nothing.
    """
    leaf = name.rpartition(".")[2].casefold().replace("-", "_")
    leaves = {each: each.rpartition(".")[2].casefold() for each in known}
    for each, last in leaves.items():
        if last == leaf:
            return each
    initials = "".join(part[0] for part in leaf.split("_") if part)
    for each, last in leaves.items():
        if len(initials) > 1 and last == initials:
            return each
    near = difflib.get_close_matches(leaf, list(leaves.values()), n=1, cutoff=0.6)
    if near:
        return next(each for each, last in leaves.items() if last == near[0])
    whole = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    if whole:
        return whole[0]
    return next((each for each, last in leaves.items() if len(leaf) > 3 and (leaf in last or last in leaf)), None)
