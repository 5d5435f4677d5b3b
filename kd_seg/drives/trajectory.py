"""Trajectories: where a frame was over time, read from files and interpolated."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.geometry import Matrix, rigid

Times = npt.NDArray[np.float64]

SLACK_S = 0.15
"""How far beyond the first or last pose a time is extrapolated: a scan and a half at 10 Hz."""

GAP_S = 1.0
"""Between poses further apart than this nothing is interpolated."""


@dataclass(frozen=True)
class Trajectory:
    """Poses of one frame, interpolated in time.

    Attributes:
        times: [S] float64 seconds, strictly ascending, S >= 1.
        poses: [S, 4, 4] float64, from the frame to a fixed world frame.
    """

    times: Times
    poses: Matrix

    def covers(self, times: Times) -> npt.NDArray[np.bool_]:
        """Which times [M] can be told: inside, or up to 0.15 s outside, and not within a gap of more than 1 s."""
        times = np.asarray(times, np.float64)
        inside: npt.NDArray[np.bool_] = (times >= self.times[0] - SLACK_S) & (times <= self.times[-1] + SLACK_S)
        if len(self.times) == 1:
            return inside
        left = self._segments(times)
        short = np.diff(self.times)[left] <= GAP_S
        exact = np.isin(times, self.times)
        result: npt.NDArray[np.bool_] = inside & (short | exact)
        return result

    def at(self, times: Times) -> Matrix:
        """Poses [M, 4, 4] at times [M]: rotations on the shortest arc, translations on the straight line.

        Times outside are extrapolated from the first or last two poses; ask ``covers`` first.
        """
        times = np.atleast_1d(np.asarray(times, np.float64))
        if len(self.times) == 1:
            return np.repeat(self.poses, len(times), axis=0)
        left = self._segments(times)
        share = (times - self.times[left]) / (self.times[left + 1] - self.times[left])
        before, after = self.poses[left], self.poses[left + 1]
        start = Rotation.from_matrix(before[:, :3, :3])
        turn = (start.inv() * Rotation.from_matrix(after[:, :3, :3])).as_rotvec()
        out = np.tile(np.eye(4), (len(times), 1, 1))
        out[:, :3, :3] = (start * Rotation.from_rotvec(turn * share[:, None])).as_matrix()
        out[:, :3, 3] = before[:, :3, 3] + share[:, None] * (after[:, :3, 3] - before[:, :3, 3])
        return out

    def then(self, fixed: Matrix) -> Trajectory:
        """The trajectory of another frame that is fixed to this one: ``pose @ fixed`` with ``fixed`` [4, 4]."""
        return Trajectory(self.times, self.poses @ fixed)

    def length_m(self) -> float:
        """Metres driven."""
        return float(np.linalg.norm(np.diff(self.poses[:, :3, 3], axis=0), axis=1).sum())

    def _segments(self, times: Times) -> npt.NDArray[np.intp]:
        return np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, len(self.times) - 2)


def rising(times: Times) -> npt.NDArray[np.intp]:
    """Places of the longest series within ``times`` [M] in which each is later than the one before it.

    Patience sorting; a single wrong time costs that time alone, and of a drive that is there twice one stays.
    """
    ends: list[float] = []  # the earliest last time of a series of each length
    places: list[int] = []
    before = np.full(len(times), -1)
    for place, time in enumerate(times.tolist()):
        length = bisect_left(ends, time)
        before[place] = places[length - 1] if length else -1
        ends[length : length + 1], places[length : length + 1] = [time], [place]
    chosen = places[-1:]
    while chosen and before[chosen[-1]] >= 0:
        chosen.append(int(before[chosen[-1]]))
    return np.array(chosen[::-1], np.intp)


def from_rows(times: Times, xyz: Matrix, quaternions: Matrix, where: str) -> Trajectory:
    """A trajectory from times [S], positions [S, 3] and quaternions [S, 4] (x, y, z, w), sorted and without repeats.

    Raises DataError naming ``where`` if there is no row, a value is not finite, or a quaternion is not of unit length.
    """
    if len(times) == 0:
        raise DataError(f"{where} holds no pose; give one that does.")
    if not (np.isfinite(times).all() and np.isfinite(xyz).all() and np.isfinite(quaternions).all()):
        raise DataError(f"{where} holds NaN or infinity; write it again.")
    lengths = np.linalg.norm(quaternions, axis=1)
    wrong = np.flatnonzero(np.abs(lengths - 1.0) > 0.01)
    if len(wrong):
        raise DataError(
            f"{where}, pose {wrong[0] + 1}: the quaternion has length {lengths[wrong[0]]:.3g}, not 1; the order is "
            "x, y, z, w."
        )
    order = np.argsort(times, kind="stable")
    times = np.asarray(times, np.float64)[order]
    first = np.concatenate([[True], np.diff(times) > 0])
    order, times = order[first], times[first]
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(quaternions[order]).as_matrix()
    poses[:, :3, 3] = xyz[order]
    return Trajectory(times, poses)


def read_tum(path: Path) -> Trajectory:
    """Read a TUM trajectory: rows of ``time x y z qx qy qz qw``, comments with #.

    Raises DataError naming file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows write a mark before the first line
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file; a TUM trajectory has rows of 'time x y z qx qy qz qw'.") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            raise DataError(f"{path}, line {number} holds something that is not a number.") from None
        if len(row) != 8:
            raise DataError(f"{path}, line {number} has {len(row)} numbers, a TUM row has 8 (time x y z qx qy qz qw).")
        rows.append(row)
    table = np.array(rows, np.float64).reshape(-1, 8)
    return from_rows(table[:, 0], table[:, 1:4], table[:, 4:], str(path))


def parse_extrinsic(text: str) -> Matrix:
    """A rigid motion [4, 4] from "x y z roll pitch yaw" (metres, degrees; yaw, then pitch, then roll).

    Raises UsageError if the text is not six numbers.
    """
    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise UsageError(f"--extrinsic {text!r} is not six numbers 'x y z roll pitch yaw' (metres and degrees).")
    return rigid(Rotation.from_euler("ZYX", numbers[:2:-1], degrees=True).as_matrix(), numbers[:3])
