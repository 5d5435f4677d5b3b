"""Paired copy-paste: a library instance into a cloud, one twin for the student, the fused one for a teacher.

Both twins get the same rotation about the sensor's axis and the same local jitter. An instance keeps its
range, so its density stays physical; it stands on the ground found where it is put; what it hides goes away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.classes import ClassTable
from kd_seg.core.config import Settings
from kd_seg.core.geometry import rotation_z
from kd_seg.instances.fusion import Fuser
from kd_seg.instances.ground_grid import Circle, GroundGrid
from kd_seg.instances.records import Role
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
    tries: int = Field(100, ge=1, description="random azimuths per instance")
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
        raw = cloud.words[: cloud.own] & 0xFFFF
        site = GroundGrid.survey(cloud.points[: cloud.own], np.isin(raw, list(self.ground_raw)))
        for _ in range(self.settings.draws):
            if pasted >= self.settings.most_points:
                break
            train = int(rng.choice(sorted(self.candidates)))  # a class first, so that classes are balanced
            name, number = self.candidates[train][int(rng.integers(len(self.candidates[train])))]
            guest = self._instance(name, number, rng)
            found = self._place(site, guest, rng)
            if found is not None:
                placed, circle = found
                site.taken.append(circle)
                pasted += placed.own
                cloud = insert(cloud, _renamed(placed, _fresh_word(cloud, int(placed.words[0]))))
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

    def _place(self, site: GroundGrid, guest: Cloud, rng: np.random.Generator) -> tuple[Cloud, Circle] | None:
        """The guest at a free place of its own range, and what it occupies; None if no try found one."""
        guest = _varied(guest, self.settings, rng)
        own = guest.points[: guest.own, :3]
        centre = 0.5 * (own.min(axis=0) + own.max(axis=0))
        radius = float(np.linalg.norm(own[:, :2] - centre[:2], axis=1).max())
        for angle in rng.uniform(-np.pi, np.pi, self.settings.tries):
            turned = rotation_z(float(angle)) @ centre
            circle = Circle(float(turned[0]), float(turned[1]), radius)
            if not site.is_free(circle, self.settings.clearance_m):
                continue
            height = site.ground_height(circle)
            if height is None:
                continue
            lift = height - float(own[:, 2].min())
            if abs(lift) > 1.0:
                continue  # the instance would be seen from another elevation than it was recorded at
            return _moved(guest, float(angle), lift), circle
        return None


def insert(cloud: Cloud, guest: Cloud) -> Cloud:
    """The guest's own rows after the cloud's own rows, its fused rows at the end; what is hidden is left out.

    Own points farther than pasted ones of the same azimuth-elevation cell go away, and so do pasted points behind own
    ones. Fused rows are no returns of this scan and hide nothing.
    """
    own = _cells(guest.points[: guest.own])
    near = np.flatnonzero(_same_direction(cloud.points[: cloud.own], guest.points[: guest.own]))
    base = _cells(cloud.points[near])
    keep_guest = np.ones(len(guest), dtype=bool)
    keep_guest[: guest.own] = own.distance <= _nearest(base, own) + MARGIN
    if not keep_guest[: guest.own].any():
        return cloud
    standing = own.take(keep_guest[: guest.own])
    keep_base = np.ones(len(cloud), dtype=bool)
    keep_base[near] = base.distance <= _nearest(standing, base) + MARGIN
    return stack([cloud.take(keep_base), guest.take(keep_guest)], [])


def _same_direction(points: npt.NDArray[np.float32], guest: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Points [N] in the guest's sector about the sensor's axis, one cell wider; a cheap first choice."""
    x, y = guest[:, 0].astype(np.float64), guest[:, 1].astype(np.float64)
    middle = np.arctan2(y.mean(), x.mean())
    turned = np.arctan2(y, x) - middle
    half = np.abs((turned + np.pi) % (2.0 * np.pi) - np.pi).max() + np.radians(2.0 * CELL_DEG[0])
    if half >= np.pi / 2:
        return np.ones(len(points), dtype=bool)
    along = points[:, 0] * np.float32(np.cos(middle)) + points[:, 1] * np.float32(np.sin(middle))
    across = points[:, 1] * np.float32(np.cos(middle)) - points[:, 0] * np.float32(np.sin(middle))
    return np.abs(across) <= along * np.float32(np.tan(half))


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


def _moved(guest: Cloud, angle: float, lift: float) -> Cloud:
    points = guest.points.copy()
    points[:, :3] = guest.points[:, :3] @ rotation_z(angle).T
    points[:, 2] += np.float32(lift)
    return guest.with_points(points)


def _renamed(guest: Cloud, word: int) -> Cloud:
    return replace(guest, words=np.full(len(guest), word, dtype=np.uint32))


def _fresh_word(cloud: Cloud, word: int) -> int:
    """The same raw class with an instance number that no row of the cloud has."""
    taken = np.unique(cloud.words >> 16)
    number = int(taken.max(initial=0)) + 1
    if number > 0xFFFF:
        number = int(np.setdiff1d(np.arange(1, 0x10000), taken)[0])
    return (word & 0xFFFF) | number << 16
