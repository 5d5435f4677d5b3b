"""Paired copy-paste: a library instance into a cloud, one twin for the student, the fused one for a teacher.

Both twins get the same rotation about the sensor's axis and the same local jitter (methods 1.7). An instance keeps its
range, so its density stays physical; it stands on the ground found where it is put; what it hides goes away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.classes import ClassTable
from kd_seg.config import Settings
from kd_seg.geometry import rotation_z
from kd_seg.instances.fusion import Fuser
from kd_seg.instances.library import Role
from kd_seg.scans import Cloud, Kind, stack

CELL_DEG = (0.25, 0.45)
"""Azimuth and elevation of the cells in which nearer points hide farther ones: a little over one beam."""

MARGIN = 0.2
"""Metres by which a point must be nearer to hide another of the same cell."""


class PasteSettings(Settings):
    """Copy-paste of library instances into the student's cloud."""

    draws: int = Field(6, ge=1, description="instances tried per scan")
    classes: list[str] | None = Field(None, description="classes to paste; none given: the table's hard classes")
    ground: list[str] = Field(["road", "parking", "sidewalk"], description="classes an instance may stand on")
    minimum: int = Field(10, ge=1, description="points that an instance needs")
    tries: int = Field(20, ge=1, description="random azimuths per instance")
    clearance_m: float = Field(1.0, ge=0, description="free space around an instance's outline, metres")
    most_points: int = Field(5000, ge=1, description="stop after so many pasted points")
    mirror: float = Field(0.5, ge=0, le=1, description="probability of a mirror image across the ray to the centre")
    yaw_deg: float = Field(9.0, ge=0, description="local yaw drawn from +- this")
    scale: float = Field(0.0, ge=0, lt=1, description="size drawn from 1 +- this; changes density a little")


@dataclass(frozen=True)
class Paster:
    """Pastes into clouds; pickles and forks into loader workers.

    Attributes:
        fuser: the library, and what the fused twins are made with.
        twin: add fused twins after the own rows.
        train: train ids to paste. ground_raw: raw ids an instance may stand on.
        candidates: per train id the (sequence, record) pairs with enough points.
    """

    fuser: Fuser
    settings: PasteSettings
    twin: bool
    ground_raw: frozenset[int]
    candidates: dict[int, list[tuple[str, int]]]

    @classmethod
    def build(cls, fuser: Fuser, classes: ClassTable, settings: PasteSettings, twin: bool) -> Paster:
        """A paster over all hard records of the fuser's library."""
        names = settings.classes if settings.classes is not None else [classes.names[c] for c in classes.hard]
        wanted = {column + 1 for column in classes.columns(names)}
        ground = {column + 1 for column in classes.columns(settings.ground)}
        raw = frozenset(raw for raw, train in classes.raw_train.items() if train in ground)
        candidates: dict[int, list[tuple[str, int]]] = {}
        for name in fuser.library.data.sequences:
            records = fuser.library.sequence(name).records
            fit = (records["count"] >= settings.minimum) & (records["role"] == Role.HARD)
            for number in np.flatnonzero(fit & np.isin(records["train"], list(wanted))):
                if not fuser.may_use(name, int(records["scan"][number])):
                    continue
                candidates.setdefault(int(records["train"][number]), []).append((name, int(number)))
        return cls(fuser, settings, twin, raw, candidates)

    def __call__(self, cloud: Cloud, rng: np.random.Generator) -> Cloud:
        """The cloud with up to ``draws`` instances among its own rows, and their fused twins after them."""
        if not self.candidates:
            return cloud
        pasted = 0
        for _ in range(self.settings.draws):
            if pasted >= self.settings.most_points:
                break
            train = int(rng.choice(sorted(self.candidates)))  # a class first, so that classes are balanced
            name, number = self.candidates[train][int(rng.integers(len(self.candidates[train])))]
            guest = self._instance(name, number, rng)
            placed = self._place(cloud, guest, rng)
            if placed is not None:
                pasted += placed.own
                cloud = insert(cloud, placed)
        return cloud

    def _instance(self, name: str, number: int, rng: np.random.Generator) -> Cloud:
        """The instance in the frame of its own scan: own rows, then its fused rows if twins are wanted."""
        sequence = self.fuser.library.sequence(name)
        record = sequence.records[number]
        points = np.array(sequence.points(number), dtype=np.float32)
        count = len(points)
        own = Cloud(
            points=points,
            words=np.full(count, record["word"], dtype=np.uint32),
            origin=np.zeros(count, dtype=np.int8),
            kind=np.full(count, int(Kind.PASTED), dtype=np.uint8),
            source=np.full(count, -1, dtype=np.int32),
            own=count,
        )
        if not self.twin or rng.random() < self.fuser.settings.skip:
            return own
        scan = self.fuser.library.data.scan(name, int(record["scan"]))
        return stack([own], [self.fuser.appearances(scan, sequence, number, Kind.FUSED, rng)])

    def _place(self, cloud: Cloud, guest: Cloud, rng: np.random.Generator) -> Cloud | None:
        """The guest at a free place of its own range, with a fresh word; None if no try found one."""
        raw = cloud.words[: cloud.own] & 0xFFFF
        on_ground = np.isin(raw, list(self.ground_raw))
        xyz = cloud.points[: cloud.own, :3]
        ground, obstacles = xyz[on_ground], xyz[~on_ground & (xyz[:, 2] < 2.5)]
        guest = _varied(guest, self.settings, rng)
        own = guest.points[: guest.own, :3]
        centre = 0.5 * (own.min(axis=0) + own.max(axis=0))
        radius = float(np.linalg.norm(own[:, :2] - centre[:2], axis=1).max())
        for angle in rng.uniform(-np.pi, np.pi, self.settings.tries):
            turned = rotation_z(float(angle)) @ centre
            near = ground[np.linalg.norm(ground[:, :2] - turned[:2], axis=1) < max(radius, 1.0)]
            if len(near) < 5:
                continue
            gap = np.linalg.norm(obstacles[:, :2] - turned[:2], axis=1)
            if (gap < radius + self.settings.clearance_m).any():
                continue
            lift = float(np.median(near[:, 2]) - own[:, 2].min())
            if abs(lift) > 1.0:
                continue  # the instance would be seen from another elevation than it was recorded at
            return _moved(guest, float(angle), lift, _fresh_word(cloud, int(guest.words[0])))
        return None


def insert(cloud: Cloud, guest: Cloud) -> Cloud:
    """The guest's own rows after the cloud's own rows, its fused rows at the end; what is hidden is left out.

    Own points farther than pasted ones of the same azimuth-elevation cell go away, and so do pasted points behind own
    ones. Fused rows are no returns of this scan and hide nothing.
    """
    base = _cells(cloud.points[: cloud.own])
    own = _cells(guest.points[: guest.own])
    keep_guest = np.ones(len(guest), dtype=bool)
    keep_guest[: guest.own] = own.distance <= _nearest(base, own) + MARGIN
    standing = own.take(keep_guest[: guest.own])
    keep_base = np.ones(len(cloud), dtype=bool)
    keep_base[: cloud.own] = base.distance <= _nearest(standing, base) + MARGIN
    if not keep_guest[: guest.own].any():
        return cloud
    return stack([cloud.take(keep_base), guest.take(keep_guest)], [])


@dataclass(frozen=True)
class _Cells:
    """Azimuth-elevation cell and distance of points."""

    code: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]

    def take(self, keep: npt.NDArray[np.bool_]) -> _Cells:
        return _Cells(self.code[keep], self.distance[keep])


def _cells(points: npt.NDArray[np.float32]) -> _Cells:
    xyz = points[:, :3].astype(np.float64)
    flat = np.hypot(xyz[:, 0], xyz[:, 1])
    azimuth = np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])) + 180.0
    elevation = np.degrees(np.arctan2(xyz[:, 2], flat)) + 90.0
    code = (azimuth / CELL_DEG[0]).astype(np.int64) * 100_000 + (elevation / CELL_DEG[1]).astype(np.int64)
    return _Cells(code, np.hypot(flat, xyz[:, 2]))


def _nearest(of: _Cells, at: _Cells) -> npt.NDArray[np.float64]:
    """Distance of the nearest point of ``of`` in the cell of each point of ``at``; infinity where there is none."""
    if len(of.code) == 0:
        return np.full(len(at.code), np.inf)
    order = np.lexsort((of.distance, of.code))
    codes, first = np.unique(of.code[order], return_index=True)
    distance = of.distance[order][first]
    place = np.minimum(np.searchsorted(codes, at.code), len(codes) - 1)
    return np.where(codes[place] == at.code, distance[place], np.inf)


def _varied(guest: Cloud, settings: PasteSettings, rng: np.random.Generator) -> Cloud:
    """Mirrored, turned and scaled about the centre of its own rows, all rows alike."""
    own = guest.points[: guest.own, :3].astype(np.float64)
    centre = 0.5 * (own.min(axis=0) + own.max(axis=0))
    linear = rotation_z(np.radians(rng.uniform(-settings.yaw_deg, settings.yaw_deg)))
    if rng.random() < settings.mirror:
        ray = centre[:2] / max(float(np.linalg.norm(centre[:2])), 1e-6)
        normal = np.array([-ray[1], ray[0], 0.0])
        linear = linear @ (np.eye(3) - 2.0 * np.outer(normal, normal))
    linear = linear * rng.uniform(1.0 - settings.scale, 1.0 + settings.scale)
    points = guest.points.copy()
    points[:, :3] = (guest.points[:, :3] - centre) @ linear.T + centre
    return guest.with_points(points)


def _moved(guest: Cloud, angle: float, lift: float, word: int) -> Cloud:
    points = guest.points.copy()
    points[:, :3] = guest.points[:, :3] @ rotation_z(angle).T
    points[:, 2] += np.float32(lift)
    return Cloud(points, np.full(len(guest), word, dtype=np.uint32), guest.origin, guest.kind, guest.source, guest.own)


def _fresh_word(cloud: Cloud, word: int) -> int:
    """The same raw class with an instance number that no row of the cloud has."""
    taken = np.unique(cloud.words >> 16)
    number = int(taken.max(initial=0)) + 1
    if number > 0xFFFF:
        number = int(np.setdiff1d(np.arange(1, 0x10000), taken)[0])
    return (word & 0xFFFF) | number << 16
