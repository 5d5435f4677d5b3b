"""Which raw classes are in the instance library, and why."""

from __future__ import annotations

from dataclasses import dataclass

from kd_seg.classes import ClassTable
from kd_seg.instances.settings import LibrarySettings


@dataclass(frozen=True)
class Roles:
    """Which raw classes are in the library, and why.

    Attributes:
        thing: raw ids of fused things. decoy: raw ids of decoy cars (things that are easy).
        stuff: raw ids of fused static classes. clutter: raw ids that clutter is taken of.
        moving: raw ids of moving things.
    """

    thing: tuple[int, ...]
    decoy: tuple[int, ...]
    stuff: tuple[int, ...]
    clutter: tuple[int, ...]
    moving: frozenset[int]

    @classmethod
    def of(cls, classes: ClassTable, settings: LibrarySettings) -> Roles:
        """From class names; ConfigError names an unknown one."""
        names = settings.classes if settings.classes is not None else [classes.names[c] for c in classes.hard]
        fused = {c + 1 for c in classes.columns(names)}
        stuff = {c + 1 for c in classes.columns(settings.stuff)}
        clutter = {c + 1 for c in classes.columns([n for n in settings.decoy_classes if n in classes.names])} - stuff
        things = {c + 1 for c in classes.things}

        def raw(train: set[int]) -> tuple[int, ...]:
            return tuple(sorted(r for r, t in classes.raw_train.items() if t in train))

        moving = frozenset(r for r, name in classes.raw_names.items() if name.startswith("moving-"))
        return cls(raw(fused), raw(things - fused), raw(stuff), raw(clutter), moving)
