"""How well moving instances are aligned, against the simulator's truth: ego-motion, centroid, Open3D's ICP, ours.

    python -m kd_seg.studies.registration datasets/streets

prints the table of docs/multi_to_single.md for simulated data. The error of a pair (instance, scan s, scan t) is the
mean distance between where a method puts the instance's points of scan s and where they truly are in scan t, and the
angle between its rotation and the true one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kd_seg.classes import ClassTable
from kd_seg.core.geometry import Matrix, invert, rigid, rotation_z, transform
from kd_seg.instances.fusion import Fuser
from kd_seg.instances.icp import NEIGHBOURS, Xyz
from kd_seg.instances.registration import Method
from kd_seg.instances.table import relative
from kd_seg.scans.truth import read_objects

COMMAND = "python -m kd_seg.studies.registration ROOT"

Aligner = Callable[[Xyz, Xyz], Matrix]
"""From source [n, 3] (after ego-motion) and target [m, 3]: the motion [4, 4] that brings source onto target."""


@dataclass(frozen=True)
class PairError:
    """One method on one pair.

    Attributes:
        name: of the class. method: of alignment. gap: |t - s|.
        metres, degrees: the error.
        used: how ours was found (a Method), "" for the others.
    """

    name: str
    method: str
    gap: int
    metres: float
    degrees: float
    used: str


def ego_only(source: Xyz, target: Xyz) -> Matrix:
    """No motion after ego-motion."""
    return np.eye(4)


def centroid(source: Xyz, target: Xyz) -> Matrix:
    """The shift between the means of the points."""
    return rigid(np.eye(3), target.mean(axis=0) - source.mean(axis=0))


def open3d_icp(source: Xyz, target: Xyz) -> Matrix:
    """Open3D's ICP (6 degrees of freedom) from the centroid, radius 1.0 m, then 0.3 m.

    Point-to-plane, and point-to-point under 50 points, where planes leave its system singular.
    """
    from kd_seg.core.open3d import open3d

    o3d = open3d()
    registration = o3d.pipelines.registration
    clouds = []
    for xyz in (source, target):
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.ascontiguousarray(xyz)))
        cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(min(NEIGHBOURS, len(xyz))))
        clouds.append(cloud)
    motion = centroid(source, target)
    plane = min(len(source), len(target)) >= 50
    estimation = (
        registration.TransformationEstimationPointToPlane()
        if plane
        else registration.TransformationEstimationPointToPoint()
    )
    for radius in (1.0, 0.3):
        found = registration.registration_icp(
            clouds[0], clouds[1], radius, motion, estimation,
            registration.ICPConvergenceCriteria(max_iteration=20),
        )  # fmt: skip
        if np.all(np.isfinite(found.transformation)):
            motion = np.asarray(found.transformation)
    return motion


ALIGNERS: dict[str, Aligner] = {"ego-motion only": ego_only, "centroid": centroid, "Open3D ICP": open3d_icp}
OURS = "ours"


def pair_errors(
    fuser: Fuser, classes: ClassTable, minimum: int = 5, aligners: dict[str, Aligner] | None = None
) -> Iterable[PairError]:
    """Errors of every method on every registered pair of a simulated data set.

    Args:
        fuser: with a registration table of simulated scans.
        classes: for names.
        minimum: points that both sides need.
        aligners: peers; all by default.
    """
    assert fuser.table is not None
    data = fuser.library.data
    for name, sequence in data.sequences.items():
        instances = fuser.library.sequence(name)
        poses = sequence.poses
        assert poses is not None
        truth = {index: {o.word: o.pose for o in read_objects(data.root, name, index)} for index in sequence.indices}
        for pair in fuser.table.pairs(name):
            key, s, t = int(pair["key"]), int(pair["s"]), int(pair["t"])
            if key not in truth[s] or key not in truth[t]:
                continue
            numbers = [int(instances.appearances(key, index, index)[0]) for index in (s, t)]
            source, target = (np.asarray(instances.points(n)[:, :3], dtype=np.float64) for n in numbers)
            if min(len(source), len(target)) < minimum:
                continue
            moved = transform(relative(poses[t], poses[s]), source)
            true_motion = truth[t][key] @ invert(truth[s][key]) @ invert(relative(poses[t], poses[s]))
            label = classes.names[int(pair["train"]) - 1]
            for method, align in (ALIGNERS if aligners is None else aligners).items():
                yield _error(label, method, abs(t - s), align(moved, target), true_motion, moved, "")
            used = Method(int(pair["method"]))
            ours = rigid(rotation_z(float(pair["yaw"])), pair["shift"])
            yield _error(label, OURS, abs(t - s), ours, true_motion, moved, used.name.lower())


def _error(name: str, method: str, gap: int, found: Matrix, true: Matrix, xyz: Xyz, used: str) -> PairError:
    metres = np.linalg.norm(transform(found, xyz) - transform(true, xyz), axis=1).mean()
    cosine = (np.trace(found[:3, :3] @ true[:3, :3].T) - 1.0) / 2.0
    return PairError(name, method, gap, float(metres), float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))), used)


@dataclass(frozen=True)
class Row:
    """One line of the table: a class and a method (dropped appearances are left out of the errors)."""

    name: str
    method: str
    pairs: int
    median_m: float
    p95_m: float
    median_deg: float
    p95_deg: float
    used: dict[str, float]


def summarise(errors: list[PairError], names: tuple[str, ...]) -> list[Row]:
    """Median and 95th percentile per class (and over all), and for ours the share of each way of alignment."""
    rows = []
    methods = list(dict.fromkeys(e.method for e in errors))
    for name in (*names, "all"):
        for method in methods:
            chosen = [e for e in errors if e.method == method and name in (e.name, "all")]
            if not chosen:
                continue
            used = {m.name.lower(): sum(e.used == m.name.lower() for e in chosen) / len(chosen) for m in Method}
            kept = [e for e in chosen if e.used != "dropped"]
            metres, degrees = np.array([e.metres for e in kept]), np.array([e.degrees for e in kept])
            if len(kept):
                rows.append(
                    Row(
                        name,
                        method,
                        len(kept),
                        float(np.median(metres)),
                        float(np.quantile(metres, 0.95)),
                        float(np.median(degrees)),
                        float(np.quantile(degrees, 0.95)),
                        used if method == OURS else {},
                    )
                )
    return rows


def markdown(rows: list[Row]) -> str:
    """The table for the documentation."""
    lines = ["| class | method | pairs | median m | p95 m | median deg | p95 deg |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        lines.append(
            f"| {r.name} | {r.method} | {r.pairs} | {r.median_m:.3f} | {r.p95_m:.3f} | "
            f"{r.median_deg:.2f} | {r.p95_deg:.2f} |"
        )
    lines += ["", "| class | " + " | ".join(m.name.lower() for m in Method) + " |", "|---|" + "---|" * len(Method)]
    for r in rows:
        if r.method == OURS:
            lines.append(f"| {r.name} | " + " | ".join(f"{100 * r.used[m.name.lower()]:.1f} %" for m in Method) + " |")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _lines(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    print(f"{what}: {total} scans", file=sys.stderr)
    yield lambda count: None


def main() -> None:
    """Prepare fusion for a simulated data root in a temporary cache, and print the table."""
    import argparse
    import tempfile
    from pathlib import Path

    from kd_seg.caches import Work
    from kd_seg.classes import load_classes
    from kd_seg.instances.fusion import prepare_fusion
    from kd_seg.instances.settings import CloudSettings, FusionSettings, LibrarySettings
    from kd_seg.scans import SemanticKitti

    parser = argparse.ArgumentParser(description="Alignment errors of moving instances against the simulator's truth.")
    parser.add_argument("root", nargs="+", help="data root written by kd-seg simulate; several are pooled")
    parser.add_argument("--earlier", type=int, default=4, help="scans back")
    asked = parser.parse_args()
    classes, errors = load_classes(), []
    library = LibrarySettings(decoy_clutter=0.0)
    for root in asked.root:
        with tempfile.TemporaryDirectory() as folder:
            data = SemanticKitti(root)
            settings = FusionSettings(library=library, cloud=CloudSettings(earlier=asked.earlier))
            prepare_fusion(Path(folder), data, classes, settings, Work(COMMAND, _lines))
            errors += list(pair_errors(Fuser.open(Path(folder), data, classes, settings, COMMAND), classes))
    print(markdown(summarise(errors, classes.names)), end="")


if __name__ == "__main__":
    main()
