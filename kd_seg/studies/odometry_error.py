"""How far estimated poses drift from known ones, as kd-seg convert --kiss-icp estimates them.

    python -m kd_seg.studies.odometry_error datasets/streets

prints the table of docs/drives.md. As in A. Geiger et al., "Are we ready for autonomous driving?", CVPR 2012: for every
piece of a path that has one of the lengths, the motion from its first to its last scan is compared with the known one;
the error is divided by the length of the piece.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import Matrix, invert
from kd_seg.drives.odometry import estimate
from kd_seg.drives.recording import RecordedCloud
from kd_seg.scans import KittiSequence

LENGTHS_M = (2.0, 5.0, 10.0, 25.0, 50.0, 100.0)
Poses = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """Errors of the pieces of one length.

    Attributes:
        length_m: of a piece. pieces: how many. metres: mean translation error per 100 m. degrees: rotation, likewise.
    """

    length_m: float
    pieces: int
    metres: float
    degrees: float


def drifts(known: Poses, found: Poses, lengths_m: Sequence[float] = LENGTHS_M) -> list[tuple[float, float, float]]:
    """(length, translation error in m, rotation error in degrees) of every piece of a path.

    Args:
        known, found: poses [S, 4, 4] of the same scans, each in a world of its own.
    """
    path = np.concatenate([[0.0], np.linalg.norm(np.diff(known[:, :3, 3], axis=0), axis=1).cumsum()])
    errors = []
    for length in lengths_m:
        for first in range(len(known)):
            last = int(np.searchsorted(path, path[first] + length))
            if last < len(known):
                wrong = invert(_motion(found, first, last)) @ _motion(known, first, last)
                errors.append((length, float(np.linalg.norm(wrong[:3, 3])), _angle_deg(wrong)))
    return errors


def summarise(errors: Sequence[tuple[float, float, float]]) -> list[Drift]:
    """Means by length, shortest first."""
    rows = []
    for length in sorted({length for length, _, _ in errors}):
        chosen = np.array([error[1:] for error in errors if error[0] == length]) * (100.0 / length)
        rows.append(Drift(length, len(chosen), float(chosen[:, 0].mean()), float(chosen[:, 1].mean())))
    return rows


def _motion(poses: Poses, first: int, last: int) -> Matrix:
    motion: Matrix = invert(poses[first]) @ poses[last]
    return motion


def _angle_deg(motion: Matrix) -> float:
    """Angle of a rotation, from the length of its axial vector, which is exact near 0."""
    rotation = motion[:3, :3]
    axial = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return float(np.degrees(np.arctan2(np.linalg.norm(axial), np.trace(rotation) - 1.0)))


def clouds(sequence: KittiSequence) -> Iterator[RecordedCloud]:
    """The scans of a sequence as a recording without times of points."""
    for number, index in enumerate(sequence.indices):
        yield RecordedCloud(number, sequence.time_of(index), sequence.scan(index).points)


def markdown(rows: Sequence[Drift]) -> str:
    """The table for the documentation."""
    lines = ["| pieces of | number | m per 100 m | degrees per 100 m |", "|---|---|---|---|"]
    lines += [f"| {row.length_m:.0f} m | {row.pieces} | {row.metres:.2f} | {row.degrees:.2f} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Estimate the poses of every sequence of the data roots that has known ones, and print the table."""
    import argparse

    from kd_seg.scans import SemanticKitti

    parser = argparse.ArgumentParser(description="Drift of estimated poses against known ones.")
    parser.add_argument("root", nargs="+", help="data root with poses; several are pooled")
    errors: list[tuple[float, float, float]] = []
    for root in parser.parse_args().root:
        for name, sequence in SemanticKitti(root).sequences.items():
            poses = [sequence.pose_of(index) for index in sequence.indices]
            known = [pose for pose in poses if pose is not None]
            if len(known) < 2:
                print(f"{root} {name}: no poses, or one scan; left out", file=sys.stderr)
                continue
            errors += drifts(np.stack(known), estimate(clouds(sequence)).poses)
    print(markdown(summarise(errors)), end="")


if __name__ == "__main__":
    main()
