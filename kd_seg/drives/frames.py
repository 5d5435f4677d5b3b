"""The tree of coordinate frames that /tf and /tf_static send."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix, invert, rigid
from kd_seg.drives.trajectory import Times, Trajectory, from_rows


def plain_name(frame: str) -> str:
    """A frame's name without the leading slash of old drivers."""
    return frame.lstrip("/")


def rigid_of(translation: object, rotation: object) -> Matrix:
    """A rigid motion [4, 4] from a message's translation (x, y, z) and rotation (x, y, z, w).

    Raises DataError if the quaternion is not of unit length, or a number not finite.
    """
    quaternion = np.array([getattr(rotation, axis) for axis in "xyzw"], np.float64)
    if not abs(float(np.linalg.norm(quaternion)) - 1.0) < 0.01:
        raise DataError(f"a transform has the quaternion {quaternion.tolist()}, which is not of length 1.")
    xyz = np.array([getattr(translation, axis) for axis in "xyz"], np.float64)
    if not np.isfinite(xyz).all():
        raise DataError(f"a transform has the translation {xyz.tolist()}, which is not finite.")
    return rigid(Rotation.from_quat(quaternion).as_matrix(), xyz)


@dataclass
class FrameTree:
    """Collects transforms, then answers where one frame is in another."""

    _parents: dict[str, str] = field(default_factory=dict)
    _fixed: dict[str, Matrix] = field(default_factory=dict)
    _moving: dict[str, list[tuple[float, Matrix]]] = field(default_factory=lambda: defaultdict(list))
    _trajectories: dict[str, Trajectory] = field(default_factory=dict)

    def add_fixed(self, parent: str, child: str, motion: Matrix) -> None:
        """A transform that never changes: ``motion`` [4, 4] takes points of the child to the parent."""
        child = plain_name(child)
        self._parents[child] = plain_name(parent)
        self._fixed[child] = motion

    def add_moving(self, parent: str, child: str, time: float, motion: Matrix) -> None:
        """One moment, in seconds, of a transform that changes: ``motion`` [4, 4] is from child to parent."""
        child = plain_name(child)
        self._parents[child] = plain_name(parent)
        self._moving[child].append((time, motion))

    def names(self) -> list[str]:
        """All frames."""
        return sorted(set(self._parents) | set(self._parents.values()))

    def fixed(self, child: str, ancestor: str) -> Matrix:
        """The constant motion [4, 4] from ``child`` to ``ancestor`` (either may lie above the other).

        What /tf sends again and again without a change, as ROS 1's static_transform_publisher does, is fixed too.

        Raises DataError if nothing connects them or something moves in between.
        """
        up, down = self._paths(child, ancestor)
        between = [name for name in (*up, *down) if name not in self._fixed]
        standing = [name for name in between if self._stands(name)]
        if len(standing) < len(between):
            ends = f"{plain_name(child)} and {plain_name(ancestor)}"
            moving = next(name for name in between if name not in standing)
            raise DataError(f"The transform between {ends} is not fixed ({moving} moves).")
        self._fix(standing)
        return invert(self._product(down)) @ self._product(up)

    def trajectory(self, child: str, ancestor: str) -> Trajectory:
        """Where ``child`` was in ``ancestor`` at each moment that its one moving ancestor was sent.

        What stands still beside it, as in ``fixed``, may be sent as rarely as it likes.

        Raises DataError if nothing connects them, or nothing or more than one frame moves in between and their times
        do not overlap.
        """
        up, down = self._paths(child, ancestor)
        moving = [name for name in (*up, *down) if name not in self._fixed]
        if not moving:
            raise DataError(
                f"{plain_name(child)} does not move in {plain_name(ancestor)}; give a frame that it moves in."
            )
        standing = [name for name in moving if self._stands(name)]
        if len(standing) < len(moving):
            self._fix(standing)
            moving = [name for name in moving if name not in standing]
        rows = [self._rows(name) for name in moving]
        times = max(rows, key=lambda row: len(row.times)).times
        for row in rows:
            times = times[row.covers(times)]
        if len(times) == 0:
            raise DataError(f"The transforms {', '.join(moving)} were never sent at the same time.")
        return Trajectory(times, np.linalg.inv(self._at(down, times)) @ self._at(up, times))

    def _stands(self, child: str) -> bool:
        """Whether a transform of /tf was sent more than once and always the same."""
        motions = np.array([motion for _, motion in self._moving[child]])
        return len(motions) > 1 and np.allclose(motions, motions[0], rtol=0.0, atol=1e-9)

    def _fix(self, standing: list[str]) -> None:
        self._fixed.update({name: self._moving[name][0][1] for name in standing})

    def _rows(self, child: str) -> Trajectory:
        if child not in self._trajectories:
            rows = self._moving[child]
            times = np.array([time for time, _ in rows])
            motions = np.array([motion for _, motion in rows])
            quaternions = Rotation.from_matrix(motions[:, :3, :3]).as_quat()
            self._trajectories[child] = from_rows(times, motions[:, :3, 3], quaternions, f"/tf of {child}")
        return self._trajectories[child]

    def _at(self, path: list[str], times: Times) -> Matrix:
        product = np.tile(np.eye(4), (len(times), 1, 1))
        for name in path:
            product = (self._fixed[name] if name in self._fixed else self._rows(name).at(times)) @ product
        return product

    def _product(self, path: list[str]) -> Matrix:
        product = np.eye(4)
        for name in path:
            product = self._fixed[name] @ product
        return product

    def _paths(self, child: str, ancestor: str) -> tuple[list[str], list[str]]:
        """Frames to climb from ``child`` and from ``ancestor`` until both stand on the same frame."""
        ups, downs = self._line(plain_name(child)), self._line(plain_name(ancestor))
        common = next((name for name in ups if name in downs), None)
        if common is None:
            known = ", ".join(self.names()) or "none"
            raise DataError(
                f"No transform connects {plain_name(child)} with {plain_name(ancestor)}; the bag's frames: {known}."
            )
        return ups[: ups.index(common)], downs[: downs.index(common)]

    def _line(self, name: str) -> list[str]:
        line = [name]
        while line[-1] in self._parents and self._parents[line[-1]] not in line:
            line.append(self._parents[line[-1]])
        return line
