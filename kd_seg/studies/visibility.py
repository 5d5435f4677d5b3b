"""How right the visibility test is, against the simulator's truth by ray casting: precision and recall by range.

Run it as ``python -m kd_seg.studies.visibility DATA [--json]`` on data of ``kd-seg simulate --images``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable, load_classes
from kd_seg.images.projection.cameras import ProjectionSettings, shots
from kd_seg.images.projection.visibility import VisibilitySettings, see
from kd_seg.scans import SemanticKitti
from kd_seg.scans.truth import read_visibility

EDGES = (0.0, 10.0, 20.0, 30.0, 40.0, 60.0, 100.0)
"""Borders of the depth bins, metres."""

FINE = ("vegetation", "terrain")
"""Classes whose leaves and blades hide each other at a scale that no scan resolves; counted apart."""


@dataclass
class VisibilityCounts:
    """Points by depth bin: really seen and passed, passed but hidden, seen but refused, hidden and refused."""

    table: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((4, len(EDGES) - 1), dtype=np.int64))

    def add(self, depth: npt.NDArray[np.float32], passed: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> None:
        """Count points [n] that lie in the picture."""
        bins = np.clip(np.digitize(depth, EDGES) - 1, 0, len(EDGES) - 2)
        for row, mask in enumerate((passed & truth, passed & ~truth, ~passed & truth, ~passed & ~truth)):
            self.table[row] += np.bincount(bins[mask], minlength=len(EDGES) - 1)

    def rows(self) -> list[dict[str, Any]]:
        """Per bin and in all: points, hidden ones, precision, recall, and share of the hidden that was found."""
        names = [f"{a:.0f}-{b:.0f} m" for a, b in pairwise(EDGES)] + ["all"]
        columns = np.column_stack([self.table, self.table.sum(axis=1)])
        return [
            {
                "range": name,
                "points": int(column.sum()),
                "hidden": int(column[1] + column[3]),
                "precision": _share(column[0], column[0] + column[1]),
                "recall": _share(column[0], column[0] + column[2]),
                "hidden_found": _share(column[3], column[1] + column[3]),
            }
            for name, column in zip(names, columns.T, strict=True)
        ]


def _share(part: int, whole: int) -> float | None:
    return round(float(part) / float(whole), 4) if whole else None


def measure(
    data: SemanticKitti, keys: Iterable[tuple[str, int]], classes: ClassTable, settings: VisibilitySettings
) -> dict[str, VisibilityCounts]:
    """Counts over all points in the pictures, over solid classes, and over fine ones (leaves and grass)."""
    fine = {classes.names.index(name) + 1 for name in FINE if name in classes.names}
    counts = {"all": VisibilityCounts(), "solid": VisibilityCounts(), "fine": VisibilityCounts()}
    for key in keys:
        scan = data.scan(*key)
        for shot in shots(scan, ProjectionSettings()):
            projected, passed = see(scan.points, shot.optics, settings)
            truth = read_visibility(data.root, *key, shot.camera.name)
            inside = projected.inside
            train = classes.to_train_lenient(scan.labels)[0] if scan.labels is not None else np.zeros(len(truth))
            leafy = np.isin(train, list(fine))
            for name, mask in (("all", inside), ("solid", inside & ~leafy), ("fine", inside & leafy)):
                counts[name].add(projected.depth[mask], passed[mask], truth[mask])
    return counts


def report(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows by "group, test on/off"."""
    data, classes = SemanticKitti(root), load_classes()
    result = {}
    for name, enabled in (("without", False), ("with", True)):
        for group, counts in measure(data, data.keys(), classes, VisibilitySettings(enabled=enabled)).items():
            result[f"{group}, {name} test"] = counts.rows()
    return result


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = report(arguments.data)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, rows in result.items():
        print(f"\n{name}")
        for row in rows:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
