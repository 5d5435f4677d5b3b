"""Whether the backward pass judged right: how right units are, before and after re-scoring, against labels.

    python -m kd_seg.studies.unit_scores RUN [--json]

RUN was trained with the objective image_units and ``backward``. Labels are read here, for scoring alone; the training
never saw them. A point is right if its class is among those that its unit may mean.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import load_classes
from kd_seg.core.errors import UsageError
from kd_seg.images.units.cache import open_units, read_units
from kd_seg.images.units.class_maps import load_class_map
from kd_seg.images.units.units import Spoilt
from kd_seg.training.run import RunFolder
from kd_seg.training.setup import cache_folder, training_data

Table = npt.NDArray[np.float64]
"""[U, 5]: teacher class, labelled points, share of them that is right, s_u, how it was spoilt."""


def measure(run: Path) -> list[dict[str, Any]]:
    """Rows for all units, for those made wrong on purpose and not, and for each teacher class."""
    folder = RunFolder(run)
    config = folder.read_config()
    number = next((n for n, o in enumerate(config.objectives) if o.kind == "image_units"), None)
    if number is None:
        raise UsageError(f"{run} was not taught by knowledge units; name a run with the objective image_units.")
    score = folder.read_state()["objectives"][number]["score"].numpy()
    settings: Any = config.objectives[number]
    classes = load_classes(config.data.classes)
    class_map = load_class_map(settings.class_map, classes)
    data = training_data(config.data)
    cache = cache_folder(config.data.root, config.data.cache)
    store = open_units(settings.source(), cache, data, classes, "kd-seg prepare CONFIG")
    lines: list[list[float]] = []
    for key in data.keys():  # noqa: SIM118 - not a mapping
        scan = data.scan(*key)
        if scan.labels is None:
            raise UsageError(f"{scan.name} has no labels to compare its units with; name a run on labelled scans.")
        train, units = classes.to_train(scan.labels, scan.name), read_units(store, key)
        for unit in range(len(units)):
            labels = train[units.rows(unit)]
            truth = labels[labels > 0].astype(np.int64) - 1
            right = class_map.sets[units.teacher_class[unit], truth].mean() if len(truth) else 0.0
            lines.append([units.teacher_class[unit], len(truth), right, score[len(lines)], units.spoilt[unit]])
    table = np.array(lines, dtype=np.float64).reshape(-1, 5)
    groups = [("all", np.ones(len(table), dtype=bool))]
    if table[:, 4].any():
        groups += [("not made wrong", table[:, 4] == 0), ("made wrong on purpose", table[:, 4] > 0)]
        groups += [(f"made wrong: {way.name.lower()}", table[:, 4] == way) for way in Spoilt if way > 0]
    groups += [(name, table[:, 0] == teacher_class) for teacher_class, name in enumerate(class_map.vocabulary)]
    return [_row(name, table[mask]) for name, mask in groups if mask.any()]


def _row(name: str, table: Table) -> dict[str, Any]:
    dropped = table[:, 3] == 0
    points = table[:, 1] * table[:, 2]
    return {
        "units": name,
        "count": len(table),
        "dropped": int(dropped.sum()),
        "score": round(float(table[:, 3].mean()), 3),
        "right": _share(table, table[:, 1]),
        "right_weighted": _share(table, table[:, 1] * table[:, 3]),
        "right_dropped": _share(table, table[:, 1] * dropped),
        "right_kept": round(float(np.average(table[:, 3], weights=points)), 3) if points.sum() > 0 else None,
    }


def _share(table: Table, weights: Table) -> float | None:
    return round(float(np.average(table[:, 2], weights=weights)), 3) if weights.sum() > 0 else None


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.run)
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
