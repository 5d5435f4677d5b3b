"""How well units of things are single objects, with touching ones split and without, against labels with instances.

    python -m kd_seg.studies.unit_objects CONFIG [key=value ...] --sequences 00 [--json]

CONFIG names the teacher in its objective image_units. Labels are read here, for scoring alone. An object is a label
word with an instance id; a unit of a class that may stand for things holds one if it has 5 of its points and a tenth of
its own, provided the object's class is among those that the unit may mean.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.core.errors import UsageError
from kd_seg.images.projection.cameras import seen_views
from kd_seg.images.units.cache import UnitMaker, UnitSource, units_of
from kd_seg.images.units.class_maps import ClassMap, load_class_map
from kd_seg.images.units.units import Units
from kd_seg.objectives.shared.image_teacher import tools
from kd_seg.scans import SemanticKitti, Words
from kd_seg.studies.image_teacher import teacher_of

LEAST_POINTS, LEAST_SHARE = 5, 0.1
"""What a unit must have of an object to hold it."""

SEEN = 10
"""Visible points from which an object counts as one that could be found."""


@dataclass
class UnitTally:
    """Counts over scans: one entry per unit of things, and per object that a camera sees."""

    size: list[int] = field(default_factory=list)
    largest: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    visible: list[int] = field(default_factory=list)
    covered: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """The figures of the table."""
        size, largest, right = (np.array(v, dtype=np.float64) for v in (self.size, self.largest, self.right))
        visible, covered, units = (np.array(v) for v in (self.visible, self.covered, self.units))
        large = visible >= SEEN
        found = large & (units > 0)
        figures = {
            "units": float(len(size)),
            "several_objects": float((np.array(self.objects) > 1).mean()) if len(size) else 0.0,
            "purity": float((largest / size).mean()) if len(size) else 0.0,
            "right": float(right.sum() / max(size.sum(), 1.0)),
            "points_covered": float(covered.sum() / max(visible.sum(), 1)),
            "objects_found": float(found.sum() / max(large.sum(), 1)),
            "units_per_object": float(units[found].mean()) if found.any() else 0.0,
        }
        return {name: round(value, 4) for name, value in figures.items()}


def measure(
    source: UnitSource, data: SemanticKitti, keys: Iterable[tuple[str, int]], classes: ClassTable
) -> dict[str, dict[str, float]]:
    """Figures "whole" (one object kept of each component) and "split" over some scans.

    several_objects: share of the units of things that hold more than one object. purity: mean share of a unit's points
    that are of its largest object. right: share of points whose class the unit may mean. points_covered: of the visible
    points of objects, those in a unit of their class. objects_found: of objects with 10 visible points, those that are
    the largest of some unit; units_per_object: by how many.
    """
    class_map = load_class_map(source.class_map, classes)
    figures = {}
    keys = list(keys)
    for name, split in (("whole", False), ("split", True)):
        objects = source.lift.objects.model_copy(update={"split": split})
        lift = source.lift.model_copy(update={"objects": objects})
        asked = source.model_copy(update={"lift": lift})
        make = UnitMaker(asked, data, classes, tools(data, classes, "cpu", class_map.vocabulary))
        tally = UnitTally()
        for key in keys:
            words = data.scan(*key).labels
            if words is None:
                raise UsageError(f"{data.scan(*key).name} has no labels to compare its units with.")
            _count(tally, units_of(make.record(key)), words, _seen(asked, data, key), class_map, classes)
        figures[name] = tally.row()
    return figures


def _seen(source: UnitSource, data: SemanticKitti, key: tuple[str, int]) -> npt.NDArray[np.int64]:
    """Rows of a scan that some picture shows."""
    sequence = data.sequences[key[0]]
    views = seen_views(sequence.scan(key[1]), sequence, source.projection)
    parts = [view.pairs.rows.astype(np.int64) for view in views]
    rows: npt.NDArray[np.int64] = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))
    return rows


def _count(
    tally: UnitTally,
    units: Units,
    words: Words,
    seen: npt.NDArray[np.int64],
    class_map: ClassMap,
    classes: ClassTable,
) -> None:
    """Add one scan."""
    train = classes.to_train(words, "labels").astype(np.int64)
    thing = np.isin(train - 1, list(classes.things)) & (words >> 16 > 0)
    things = class_map.things(classes)
    holders: dict[int, int] = {}
    covered = np.zeros(len(words), dtype=bool)
    for number in range(len(units)):
        rows = units.rows(number)
        if not things[units.teacher_class[number]] or not len(rows):
            continue
        meant = (train[rows] > 0) & class_map.sets[units.teacher_class[number], np.maximum(train[rows] - 1, 0)]
        found, counts = np.unique(words[rows][meant & thing[rows]], return_counts=True)
        covered[rows[meant]] = True
        tally.size.append(len(rows))
        tally.right.append(int(meant.sum()))
        tally.largest.append(int(counts.max(initial=0)))
        tally.objects.append(int(((counts >= LEAST_POINTS) & (counts >= LEAST_SHARE * len(rows))).sum()))
        if len(counts):
            word = int(found[counts.argmax()])
            holders[word] = holders.get(word, 0) + 1
    rows = seen[thing[seen]]
    names, inverse = np.unique(words[rows], return_inverse=True)
    tally.visible += np.bincount(inverse, minlength=len(names)).tolist()
    tally.covered += np.bincount(inverse[covered[rows]], minlength=len(names)).tolist()
    tally.units += [holders.get(int(word), 0) for word in names]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--sequences", nargs="+")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    entry, data, classes = teacher_of(arguments.config, arguments.overrides, arguments.sequences)
    result = measure(entry.source(), data, data.keys(), classes)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, row in result.items():
        print(name.ljust(6), "  ".join(f"{key} {value:g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
