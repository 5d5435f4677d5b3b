"""The fused cloud: a scan plus the matched instances of other scans, aligned onto the present."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.caches import Work, missing_shards
from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.core.geometry import transform
from kd_seg.instances.build import build_library
from kd_seg.instances.library import InstanceLibrary, SequenceInstances, library_plan
from kd_seg.instances.nearness import keep_fused
from kd_seg.instances.records import Role
from kd_seg.instances.registration import Method
from kd_seg.instances.settings import CloudSettings, FusionSettings
from kd_seg.instances.table import RegistrationTable, build_table, relative
from kd_seg.scans import Cloud, Key, Kind, Scan, SemanticKitti, stack

CELL = 0.05
"""Edge in metres of the cells that ``per_cell`` counts in."""


@dataclass(frozen=True)
class Fuser:
    """Adds fused rows and decoys to clouds; pickles and forks into loader workers.

    Attributes:
        library: of the scans' instances.
        table: registrations; None where the alignment needs none.
        settings: of the cloud.
        allowed: (sequence, scan) whose instances may be used, where labels are few; None = all.
    """

    library: InstanceLibrary
    table: RegistrationTable | None
    settings: CloudSettings
    allowed: frozenset[Key] | None = None

    @classmethod
    def open(
        cls,
        cache: Path,
        data: SemanticKitti,
        classes: ClassTable,
        settings: FusionSettings,
        fix_command: str,
        allowed: frozenset[Key] | None = None,
    ) -> Fuser:
        """From what ``prepare_fusion`` built.

        Args:
            cache: folder of libraries.
            data: labelled scans with poses.
            fix_command: the command that builds what is missing, for messages.
            allowed: see the class.

        Raises:
            DataError: library or registrations are missing, or were made from other data.
        """
        library = InstanceLibrary(cache, data, classes, settings.library, fix_command)
        offsets = settings.cloud.offsets()
        table = RegistrationTable(library, settings.registration, offsets) if settings.registers else None
        return cls(library, table, settings.cloud, allowed)

    def may_use(self, sequence: str, scan: int) -> bool:
        """Whether the instances of a scan may be used."""
        return self.allowed is None or (sequence, scan) in self.allowed

    def fuse(self, scan: Scan, cloud: Cloud, rng: np.random.Generator) -> Cloud:
        """``cloud`` (of ``scan``, not yet moved) with fused rows and decoys after all its rows.

        An instance is fused only if its key is among the cloud's own rows, and a share ``skip`` of them is not.

        Raises:
            DataError: the scan's labels changed since the library was made.
        """
        if not self.may_use(scan.sequence, scan.index):
            return cloud
        sequence = self.library.sequence(scan.sequence)
        numbers = sequence.at(scan.index)
        self._check_labels(scan, sequence, numbers)
        role = sequence.records["role"][numbers]
        present = np.isin(sequence.records["word"][numbers], _words_present(cloud)) | (role == Role.DECOY_CLUTTER)
        present |= role == Role.STUFF
        hard = numbers[present & ((role == Role.HARD) | (role == Role.STUFF))]
        fused = [
            self.appearances(scan, sequence, int(n), Kind.FUSED, rng)
            for n in hard
            if rng.random() >= self.settings.skip
        ]
        fused = _capped(fused, self.settings.per_cloud, rng)
        total = sum(len(part) for part in fused)
        if self.settings.decoys and total > 0:
            fused += self._decoys(
                scan, sequence, rng.permutation(numbers[present & (role >= Role.DECOY_CAR)]), total, rng
            )
        return self._joined(cloud, fused)

    def _check_labels(self, scan: Scan, sequence: SequenceInstances, numbers: npt.NDArray[np.int64]) -> None:
        """Opening the library compared few label files in full; here each is compared where it is used."""
        words = scan.labels
        if words is None:
            return
        for number in numbers:
            record = sequence.records[number]
            whole = record["role"] in (Role.HARD, Role.DECOY_CAR)  # others are of one class, not of one word
            changed = (words[sequence.rows(int(number))] ^ record["word"]) & (0xFFFFFFFF if whole else 0xFFFF)
            if changed.any():
                raise DataError(
                    f"The labels of scan {scan.name} changed since the instance library {self.library.folder} was "
                    f"made; rebuild it with: {self.library.cache.fix_command} --rebuild"
                )

    def appearances(
        self, scan: Scan, sequence: SequenceInstances, number: int, kind: Kind, rng: np.random.Generator
    ) -> Cloud:
        """The other scans' points of one record's key, in the frame of ``scan``, nearest scans first; no own rows."""
        record = sequence.records[number]
        offsets = self.settings.offsets()
        parts: list[Cloud] = []
        if offsets:
            t, key = scan.index, int(record["key"])
            window = sequence.appearances(key, t - max(max(offsets), 0), t - min(min(offsets), 0))
            by_scan = {int(sequence.records["scan"][n]): int(n) for n in window}
            gathered = [np.asarray(sequence.points(number), dtype=np.float32)]
            for offset in offsets:
                source = by_scan.get(t - offset)
                if source is None or not self.may_use(scan.sequence, t - offset):
                    continue
                moves = bool(record["moving"] or sequence.records["moving"][source])  # linked keys may differ in it
                aligned = self._aligned(scan, sequence, source, moves, gathered)
                if aligned is not None:
                    gathered.append(aligned)
                    parts.append(_rows(aligned, int(record["word"]), offset, kind))
        whole = _concatenate(parts)
        if len(whole) > self.settings.per_instance:
            whole = whole.take(np.sort(rng.choice(len(whole), self.settings.per_instance, replace=False)))
        return whole

    def _aligned(
        self,
        scan: Scan,
        sequence: SequenceInstances,
        number: int,
        moves: bool,
        gathered: list[npt.NDArray[np.float32]],
    ) -> npt.NDArray[np.float32] | None:
        """Points [n, 4] of a record in the frame of ``scan``; None where its registration was rejected.

        ``moves``: whether the object moves between the two scans.
        """
        record = sequence.records[number]
        points = np.array(sequence.points(number), dtype=np.float32)
        if self.settings.alignment == "centroid" and record["role"] != Role.DECOY_CLUTTER:
            centre = np.concatenate(gathered)[:, :3].mean(axis=0, dtype=np.float64)
            points[:, :3] += (centre - points[:, :3].mean(axis=0, dtype=np.float64)).astype(np.float32)
            return points
        poses = self.library.data.sequences[scan.sequence].poses
        assert poses is not None  # the library was built with them
        s = int(record["scan"])
        moved = transform(relative(poses[scan.index], poses[s]), points[:, :3])
        if moves and self.table is not None:
            registration = self.table.find(scan.sequence, int(record["key"]), scan.index, s)
            if registration is None or registration.method == Method.DROPPED:
                return None
            moved = registration.motion.apply(moved)
        points[:, :3] = moved
        return points

    def _decoys(
        self,
        scan: Scan,
        sequence: SequenceInstances,
        numbers: npt.NDArray[np.int64],
        total: int,
        rng: np.random.Generator,
    ) -> list[Cloud]:
        """Decoys, cars and clutter in random order, until they have about ``total`` points."""
        parts: list[Cloud] = []
        left = total
        for number in numbers:
            if left <= 0:
                break
            part = self.appearances(scan, sequence, int(number), Kind.DECOY, rng)
            parts.append(part)
            left -= len(part)
        return parts

    def _joined(self, cloud: Cloud, fused: list[Cloud]) -> Cloud:
        others = _concatenate(fused)
        if len(others) == 0:
            return cloud
        own = cloud.points[: cloud.own, :3]
        keep = keep_fused(own, others.points[:, :3], self.settings.clearance, CELL, self.settings.per_cell)
        return stack([cloud], [others.take(keep)])


def prepare_fusion(cache: Path, data: SemanticKitti, classes: ClassTable, settings: FusionSettings, work: Work) -> bool:
    """Build the library and, where the alignment needs it, the registration table; True where all is there then.

    With several parts (``work.shard``) a part registers once every part of the library is there, so it may have to be
    run again.
    """
    build_library(cache, data, classes, settings.library, work)
    if not settings.registers:
        return True
    if missing_shards(library_plan(cache, data, classes, settings.library)):
        return False
    library = InstanceLibrary(cache, data, classes, settings.library, work.fix_command)
    build_table(library, classes, settings.registration, settings.cloud.offsets(), work)
    return True


def _words_present(cloud: Cloud) -> npt.NDArray[np.uint32]:
    """Words with an instance number among the own rows that were not pasted."""
    words = cloud.words[: cloud.own]
    words = words[(words > 0xFFFF) & (cloud.kind[: cloud.own] == Kind.OWN)]
    present: npt.NDArray[np.uint32] = np.unique(words)
    return present


def _rows(points: npt.NDArray[np.float32], word: int, origin: int, kind: Kind) -> Cloud:
    """A cloud of points of one word and origin, without own rows."""
    count = len(points)
    return Cloud(
        points=points,
        words=np.full(count, word, dtype=np.uint32),
        origin=np.full(count, origin, dtype=np.int8),
        kind=np.full(count, int(kind), dtype=np.uint8),
        source=np.full(count, -1, dtype=np.int32),
        own=0,
    )


def _concatenate(parts: list[Cloud]) -> Cloud:
    """Clouds without own rows, one after the other."""
    return stack([], parts) if parts else _rows(np.zeros((0, 4), dtype=np.float32), 0, 0, Kind.FUSED)


def _capped(parts: list[Cloud], limit: int, rng: np.random.Generator) -> list[Cloud]:
    """The same share of every part, so that together they have at most ``limit`` rows."""
    total = sum(len(part) for part in parts)
    if total <= limit:
        return parts
    counts = [len(part) * limit // total for part in parts]
    return [p.take(np.sort(rng.choice(len(p), n, replace=False))) for p, n in zip(parts, counts, strict=True)]
