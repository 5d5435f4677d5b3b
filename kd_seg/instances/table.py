"""The registration table: for every moving instance, how each of its appearances is brought onto each scan.

It is a cache inside the library that it was made from, with one array ``pairs`` (PAIR as bytes) per scan, and is
computed once; the loader only reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.caches import Cache, CacheKind, CachePlan, Header, Record, Work, build_cache
from kd_seg.classes import ClassTable
from kd_seg.core.config import digest
from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix, invert, transform
from kd_seg.instances.icp import Motion, Target, Xyz
from kd_seg.instances.library import LIBRARY, InstanceLibrary, SequenceInstances, read_table
from kd_seg.instances.records import Role, as_bytes
from kd_seg.instances.registration import Method, Registration, RegistrationLimits, box_shift, register, speed_limits
from kd_seg.instances.settings import RegistrationSettings
from kd_seg.scans import Key, KittiSequence

TABLE = CacheKind("registration table", version=2, block=LIBRARY.block)

_LEVEL = np.array([1.0, 1.0, 0.0])
"""Starts hold the height that ego-motion gives."""

PAIR = np.dtype(
    [
        ("key", "<u8"),
        ("t", "<i4"),
        ("s", "<i4"),
        ("yaw", "<f8"),
        ("shift", "<f8", (3,)),
        ("rms", "<f4"),
        ("inliers", "<f4"),
        ("method", "u1"),
        ("train", "u1"),
        ("pad", "u1", (2,)),
    ]
)
"""One registration: the motion applied after ego-motion to the points of ``key`` in scan s, to fit scan t."""


def relative(to: Matrix, of: Matrix) -> Matrix:
    """LiDAR frame of scan s to that of scan t: ``T_t^-1 T_s``, from LiDAR poses [4, 4]."""
    return invert(to) @ of


def table_plan(library: InstanceLibrary, settings: RegistrationSettings, offsets: tuple[int, ...]) -> CachePlan:
    """The table of a library for these settings and offsets t - s; it lies in the library's folder."""
    content = {"settings": settings.model_dump(mode="json"), "offsets": list(offsets)}
    folder = library.folder / f"registration-{digest({**content, 'format': 1})}"
    plan = library.cache.plan
    return CachePlan(folder, TABLE, Header("registrations", content, plan.header.data), plan.keys)


class RegistrationTable:
    """The opened table of an opened library; sequences are read when first asked for.

    Raises:
        DataError: it is missing, incomplete, or made from other data; the message names the command that builds it.
    """

    def __init__(self, library: InstanceLibrary, settings: RegistrationSettings, offsets: tuple[int, ...]) -> None:
        self.cache = Cache(table_plan(library, settings, offsets), library.cache.fix_command)
        self._sequences: dict[str, tuple[npt.NDArray[np.uint64], npt.NDArray[np.void]]] = {}

    def pairs(self, sequence: str) -> npt.NDArray[np.void]:
        """All PAIR rows [K] of a sequence, sorted by (key, t, s)."""
        return self._load(sequence)[1]

    def find(self, sequence: str, key: int, t: int, s: int) -> Registration | None:
        """How ``key`` of scan s is brought onto scan t; None where it was never registered."""
        codes, pairs = self._load(sequence)
        code = _codes(np.array([key], np.uint64), np.array([t]), np.array([s]))[0]
        row = int(np.searchsorted(codes, code))
        if row == len(codes) or codes[row] != code:
            return None
        pair = pairs[row]
        motion = Motion(float(pair["yaw"]), np.asarray(pair["shift"], dtype=np.float64))
        return Registration(motion, Method(int(pair["method"])), float(pair["rms"]), float(pair["inliers"]))

    def _load(self, sequence: str) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.void]]:
        if sequence not in self._sequences:
            pairs = read_table(self.cache, sequence, "pairs", PAIR)
            codes = _codes(pairs["key"], pairs["t"], pairs["s"])
            order = np.argsort(codes)
            self._sequences[sequence] = codes[order], pairs[order]
        return self._sequences[sequence]


def _codes(
    key: npt.NDArray[np.uint64], t: npt.NDArray[np.integer[Any]], s: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.uint64]:
    """word << 32 | t << 8 | (t - s + 128): one number per pair; t below 2^24, |t - s| below 128."""
    offset = (t.astype(np.int64) - s.astype(np.int64) + 128).astype(np.uint64)
    return (key << np.uint64(32)) | (t.astype(np.uint64) << np.uint64(8)) | offset


def build_table(
    library: InstanceLibrary, classes: ClassTable, settings: RegistrationSettings, offsets: tuple[int, ...], work: Work
) -> None:
    """Compute what is missing of the table of a library."""
    build_cache(table_plan(library, settings, offsets), partial(Registrar, library, classes, settings, offsets), work)


@dataclass(frozen=True)
class Registrar:
    """Registers the moving instances of scans, one process's worth."""

    library: InstanceLibrary
    classes: ClassTable
    settings: RegistrationSettings
    offsets: tuple[int, ...]

    def __call__(self, keys: Sequence[Key]) -> Iterator[Record]:
        """PAIR rows of each scan; a fresh chain per shard, so that the result does not depend on the processes."""
        name = keys[0][0]
        reader, instances = self.library.data.sequences[name], self.library.sequence(name)
        chain = Chain(reader, instances, speed_limits(self.classes.names, self.settings), self.settings)
        for _, t in keys:
            yield {"pairs": as_bytes(np.array(chain.pairs(t, self.offsets), dtype=PAIR))}


class Chain:
    """Registers scan after scan of one sequence; what it learns of an object's speed helps the next scan.

    Args:
        sequence: for poses and times.
        instances: records of the sequence.
        speeds: largest speed per logit column.
        settings: of registration.
    """

    def __init__(
        self,
        sequence: KittiSequence,
        instances: SequenceInstances,
        speeds: tuple[float, ...],
        settings: RegistrationSettings,
    ) -> None:
        self.sequence = sequence
        self.instances = instances
        self.speeds = speeds
        self.settings = settings
        self._velocity: dict[int, tuple[int, Xyz]] = {}

    def pairs(self, t: int, offsets: tuple[int, ...]) -> list[tuple[Any, ...]]:
        """PAIR rows of every instance of scan t with each of its appearances at the offsets t - s, if either moves."""
        records = self.instances.records
        found: list[tuple[Any, ...]] = []
        for number in self.instances.at(t):
            record = records[number]
            if record["role"] not in (Role.HARD, Role.DECOY_CAR):
                continue
            key, train = int(record["key"]), int(record["train"])
            window = records[self._window(key, t, offsets)]
            moving = set(window["scan"][window["moving"] | record["moving"]].tolist())  # differs where keys are linked
            if not moving:
                continue
            for s, registration in self.register_all(int(number), t, offsets):
                if s not in moving:
                    continue
                motion = registration.motion
                quality = (registration.rms, registration.inliers, int(registration.method))
                found.append((key, t, s, motion.yaw, motion.shift, *quality, train, (0, 0)))
        return found

    def register_all(self, number: int, t: int, offsets: tuple[int, ...]) -> list[tuple[int, Registration]]:
        """(s, registration) of each appearance of record ``number``'s key at the offsets, nearest scans first."""
        record = self.instances.records[number]
        key = int(record["key"])
        pose = self._pose(t)
        own = np.asarray(self.instances.points(number)[:, :3], dtype=np.float64)
        window = self._window(key, t, offsets)
        numbers = {int(self.instances.records["scan"][n]): int(n) for n in window}
        limits = self._limits(window, int(record["train"]))
        aligned = Target(own)
        velocity = self._start_velocity(key, t)
        known = [(0.0, np.zeros(3))]
        found: list[tuple[int, Registration]] = []
        for offset in offsets:
            s = t - offset
            if s not in numbers:
                continue
            ego = relative(pose, self._pose(s))
            source = transform(ego, self.instances.points(numbers[s])[:, :3])
            gap = self._gap(t, s)
            starts = [] if velocity is None else [velocity * gap * _LEVEL]
            starts.append(box_shift(source, aligned.xyz))
            registration = register(source, aligned, starts, abs(gap), limits, self.settings)
            found.append((s, registration))
            if registration.method <= Method.TRANSLATION:
                centre = source.mean(axis=0, keepdims=True)
                known.append((gap, (registration.motion.apply(centre) - centre)[0]))
                velocity = _velocity(known)
                if offset == offsets[0]:
                    self._velocity[key] = (t, (pose[:3, :3] @ known[-1][1]) / gap)
            if len(own) < self.settings.minimum and registration.method < Method.DROPPED:
                aligned = Target(np.concatenate([aligned.xyz, registration.motion.apply(source)]))
        return found

    def _window(self, key: int, t: int, offsets: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Numbers of the records of ``key`` in scan t and wherever the offsets reach."""
        return self.instances.appearances(key, t - max(max(offsets), 0), t - min(min(offsets), 0))

    def _start_velocity(self, key: int, t: int) -> Xyz | None:
        """Velocity (LiDAR frame of scan t, m/s) that the scan before found for this key; None if it did not."""
        last = self._velocity.get(key)
        if last is None or not 0 < t - last[0] <= 2:
            return None
        return self._pose(t)[:3, :3].T @ last[1]

    def _limits(self, window: npt.NDArray[np.int64], train: int) -> RegistrationLimits:
        records = self.instances.records[window]
        largest = np.linalg.norm((records["upper"] - records["lower"])[:, :2], axis=1).max()
        factor, margin = self.settings.extent
        return RegistrationLimits(self.speeds[train - 1], factor * float(largest) + margin)

    def _pose(self, index: int) -> Matrix:
        poses = self.sequence.poses
        if poses is None or index >= len(poses):
            raise DataError(f"{self.sequence.folder} has no pose of scan {index}; fusing instances needs poses.txt.")
        pose: Matrix = poses[index]
        return pose

    def _gap(self, t: int, s: int) -> float:
        """Seconds from scan s to scan t, negative where s is the later one."""
        gap = self.sequence.time_of(t) - self.sequence.time_of(s)
        if gap * (t - s) <= 0:
            first, last = sorted((s, t))
            raise DataError(
                f"{self.sequence.folder / 'times.txt'}: scan {last} is not later than scan {first}, but moving objects "
                "are registered by their speed; write the times of the scans, or remove the file (0.1 s a scan then)."
            )
        return gap


def _velocity(known: list[tuple[float, Xyz]]) -> Xyz:
    """Constant velocity from the last two known shifts (the present scan, shift 0, counts as known)."""
    (gap_a, shift_a), (gap_b, shift_b) = known[-2:]
    if abs(gap_b - gap_a) < 1e-3:
        return shift_b / gap_b
    return (shift_b - shift_a) / (gap_b - gap_a)
