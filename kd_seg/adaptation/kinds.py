"""What things are like, by the names of SemanticKITTI's and nuScenes' classes."""

from __future__ import annotations

from kd_seg.classes import ClassTable

VEHICLES = frozenset({"car", "truck", "other-vehicle", "bus", "trailer", "construction-vehicle", "on-rails"})
MOVERS = frozenset({"person", "pedestrian", "bicyclist", "motorcyclist"})


def kinds(classes: ClassTable) -> tuple[tuple[int, ...], ...]:
    """Class ids of the vehicles and of all smaller things: one is taken for another of its kind, seldom across."""
    large = tuple(c for c in classes.things if _base(classes.names[c]) in VEHICLES)
    return large, tuple(c for c in classes.things if c not in large)


def movers(classes: ClassTable) -> tuple[int, ...]:
    """Class ids of what seldom stands still, so that it leaves a trail where scans are fused by ego-motion alone."""
    return tuple(c for c in classes.things if _base(classes.names[c]) in MOVERS)


def _base(name: str) -> str:
    return name.removeprefix("moving-")
