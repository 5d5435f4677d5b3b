"""The registration table: for every moving instance, how each of its appearances is brought onto each scan.

It lies inside the library it was made from, one folder per shard, and is computed once; the loader only looks it up.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.core.config import digest
from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix, invert, transform
from kd_seg.instances.build import Work, run_tasks, write_arrays, write_text
from kd_seg.instances.icp import Motion, Target, Xyz
from kd_seg.instances.library import InstanceLibrary, Role, SequenceInstances, shard_names
from kd_seg.instances.registration import Limits, Method, Registration, box_shift, register, speed_limits
from kd_seg.instances.settings import LibrarySettings, RegistrationSettings
from kd_seg.scans import KittiSequence, SemanticKitti

FORMAT = 1

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
    """LiDAR frame of scan s to that of scan t: ``T_t^-1 T_s`` (methods 1.3), from LiDAR poses [4, 4]."""
    return invert(to) @ of


def table_folder(library: Path, settings: RegistrationSettings, offsets: tuple[int, ...]) -> Path:
    """Where the table of these settings and offsets t - s lives."""
    content = {"settings": settings.model_dump(mode="json"), "offsets": list(offsets), "format": FORMAT}
    return library / f"registration-{digest(content)}"


class RegistrationTable:
    """An opened table; sequences are read when first asked for."""

    def __init__(self, folder: Path, data: SemanticKitti, mend: str) -> None:
        self.folder = folder
        self.data = data
        self.mend = mend
        self._sequences: dict[str, tuple[npt.NDArray[np.uint64], npt.NDArray[np.void]]] = {}

    @classmethod
    def open(
        cls, library: InstanceLibrary, settings: RegistrationSettings, offsets: tuple[int, ...]
    ) -> RegistrationTable:
        """The table of an opened library; DataError says what is missing and the command that makes it."""
        folder = table_folder(library.folder, settings, offsets)
        names = [name for name, _, _ in shard_names(library.data)]
        missing = [name for name in names if not (folder / name).is_dir()]
        if missing:
            raise DataError(
                f"The registration table {folder} lacks {len(missing)} of {len(names)} shards; "
                f"make it with: {library.mend}"
            )
        return cls(folder, library.data, library.mend)

    def pairs(self, sequence: str) -> npt.NDArray[np.void]:
        """All PAIR rows of a sequence, sorted by (key, t, s)."""
        return self._load(sequence)[1]

    def find(self, sequence: str, key: int, t: int, s: int) -> Registration | None:
        """How ``key`` of scan s is brought onto scan t; None where it was never looked at."""
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
            parts = [np.zeros(0, dtype=PAIR)]
            for name, owner, _ in shard_names(self.data):
                if owner != sequence:
                    continue
                path = self.folder / name / "pairs.npy"
                try:
                    part = np.load(path, allow_pickle=False)
                except (OSError, ValueError, EOFError):
                    raise DataError(f"{path} is broken; rebuild it with: {self.mend} --rebuild") from None
                if part.dtype != PAIR:
                    raise DataError(f"{path} has an unknown layout; rebuild it with: {self.mend} --rebuild")
                parts.append(part)
            pairs = np.concatenate(parts)
            codes = _codes(pairs["key"], pairs["t"], pairs["s"])
            order = np.argsort(codes)
            self._sequences[sequence] = codes[order], pairs[order]
        return self._sequences[sequence]


def _codes(
    key: npt.NDArray[np.uint64], t: npt.NDArray[np.integer], s: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint64]:
    """word << 32 | t << 8 | (t - s + 128): one number per pair; t below 2^24, |t - s| below 128."""
    offset = (t.astype(np.int64) - s.astype(np.int64) + 128).astype(np.uint64)
    return (key << np.uint64(32)) | (t.astype(np.uint64) << np.uint64(8)) | offset


def build_table(
    library: InstanceLibrary,
    classes: ClassTable,
    library_settings: LibrarySettings,
    settings: RegistrationSettings,
    offsets: tuple[int, ...],
    work: Work,
) -> Path:
    """Compute what is missing of a table; returns its folder."""
    folder = table_folder(library.folder, settings, offsets)
    folder.mkdir(parents=True, exist_ok=True)
    header = {"kind": "kd_seg registration table", "format": FORMAT, "offsets": list(offsets)}
    header["settings"] = settings.model_dump(mode="json")
    write_text(folder / "header.json", json.dumps(header, indent=1) + "\n")
    tasks = [t for t in work.mine(shard_names(library.data)) if not (folder / t[0]).is_dir()]
    cache, root, names = library.folder.parent, str(library.data.root), list(library.data.sequences)
    arguments = [
        (folder, cache, root, names, classes, library_settings, settings, offsets, library.mend, *task)
        for task in tasks
    ]
    run_tasks("registration", build_table_shard, arguments, [len(t[2]) for t in tasks], work)
    return folder


def build_table_shard(
    folder: Path,
    cache: Path,
    root: str,
    names: list[str],
    classes: ClassTable,
    library_settings: LibrarySettings,
    settings: RegistrationSettings,
    offsets: tuple[int, ...],
    mend: str,
    shard: str,
    sequence: str,
    scans: tuple[int, ...],
) -> None:
    """Register the moving instances of some scans and write the shard whole."""
    data = SemanticKitti(root, names)
    library = InstanceLibrary(folder.parent, data, library_settings, mend)
    reader = data.sequences[sequence]
    speeds = speed_limits(classes.names, settings)
    chain = Chain(reader, library.sequence(sequence), speeds, settings)
    pairs = [pair for t in scans for pair in chain.pairs(t, offsets)]
    write_arrays(folder / shard, {"pairs": np.array(pairs, dtype=PAIR)})


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

    def pairs(self, t: int, offsets: tuple[int, ...]) -> list[tuple]:
        """PAIR rows of every moving instance of scan t with each of its appearances at the offsets t - s."""
        records = self.instances.records
        found: list[tuple] = []
        for number in self.instances.at(t):
            record = records[number]
            if not record["moving"] or record["role"] not in (Role.HARD, Role.DECOY_CAR):
                continue
            key, train = int(record["key"]), int(record["train"])
            for s, registration in self.register_all(int(number), t, offsets):
                motion = registration.motion
                quality = (registration.rms, registration.inliers, int(registration.method))
                found.append((key, t, s, motion.yaw, motion.shift, *quality, train, (0, 0)))
        return found

    def register_all(self, number: int, t: int, offsets: tuple[int, ...]) -> list[tuple[int, Registration]]:
        """(s, registration) of each appearance of record ``number``'s key at the offsets, nearest scans first."""
        record = self.instances.records[number]
        key = int(record["key"])
        pose, time = self._pose(t), self._time(t)
        own = np.asarray(self.instances.points(number)[:, :3], dtype=np.float64)
        window = self.instances.appearances(key, t - max(max(offsets), 0), t - min(min(offsets), 0))
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
            gap = time - self._time(s)
            starts = [] if velocity is None else [velocity * gap * _LEVEL]
            starts.append(box_shift(source, aligned.xyz))
            registration = register(source, aligned, starts, max(abs(gap), 1e-3), limits, self.settings)
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

    def _start_velocity(self, key: int, t: int) -> Xyz | None:
        """Velocity (LiDAR frame of scan t, m/s) that the scan before found for this key; None if it did not."""
        last = self._velocity.get(key)
        if last is None or not 0 < t - last[0] <= 2:
            return None
        return self._pose(t)[:3, :3].T @ last[1]

    def _limits(self, window: npt.NDArray[np.int64], train: int) -> Limits:
        records = self.instances.records[window]
        largest = np.linalg.norm((records["upper"] - records["lower"])[:, :2], axis=1).max()
        factor, margin = self.settings.extent
        return Limits(self.speeds[train - 1], factor * float(largest) + margin)

    def _pose(self, index: int) -> Matrix:
        poses = self.sequence.poses
        if poses is None or index >= len(poses):
            raise DataError(f"{self.sequence.folder} has no pose of scan {index}; fusing instances needs poses.txt.")
        return poses[index]

    def _time(self, index: int) -> float:
        times = self.sequence.times
        return float(times[index]) if times is not None and index < len(times) else 0.1 * index


def _velocity(known: list[tuple[float, Xyz]]) -> Xyz:
    """Constant velocity from the last two known shifts (the present scan, shift 0, counts as known)."""
    (gap_a, shift_a), (gap_b, shift_b) = known[-2:]
    if abs(gap_b - gap_a) < 1e-3:
        return shift_b / gap_b
    return (shift_b - shift_a) / (gap_b - gap_a)
