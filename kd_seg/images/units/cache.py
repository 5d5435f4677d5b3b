"""Units of a data set in the teacher cache: how one scan's are made, and how they are read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.caches import Cache, CacheKind, CachePlan, Header, Record, Work, build_cache, cache_path
from kd_seg.classes import ClassTable
from kd_seg.core.config import Settings
from kd_seg.core.errors import DataError
from kd_seg.images.fingerprint import fingerprint
from kd_seg.images.projection.cameras import ProjectionSettings, SeenView, pairs, seen_views, turned
from kd_seg.images.projection.visibility import see
from kd_seg.images.teachers import IMAGE_TEACHERS, TeacherEntry, TeacherOutput, Tools, build_teacher
from kd_seg.images.teachers.memory import Remembering
from kd_seg.images.units.class_maps import ClassMap, load_class_map
from kd_seg.images.units.lifting import LiftSettings, PictureFrame, lift_detections, lift_semantic
from kd_seg.images.units.noise import Noise, NoiseSettings
from kd_seg.images.units.units import Claim, Units, gather
from kd_seg.scans import Key, SemanticKitti

CONTENT = "units"
KIND = CacheKind("cache of knowledge units", version=1, block=50)
TEACHER_CLASS = "klass"
"""Array of the teacher classes in the cache, as 0.1.0 named it."""

_ARRAYS = {TEACHER_CLASS if field.name == "teacher_class" else field.name: field.name for field in fields(Units)}
"""Field of ``Units`` by the name of its array in the cache."""


class UnitSource(Settings):
    """Everything that the units of a scan depend on.

    Attributes:
        teacher: an image teacher's settings, by its kind.
        class_map: a name in configs/class_maps, a YAML file, or "same" for a teacher with the student's classes.
    """

    teacher: TeacherEntry
    class_map: str = "cityscapes_19"
    projection: ProjectionSettings = ProjectionSettings()
    lift: LiftSettings = LiftSettings()
    noise: NoiseSettings = NoiseSettings()

    def path(self, cache: Path) -> Path:
        """Where its cache lies."""
        return cache_path(cache, "images", CONTENT, self.model_dump(mode="json"))

    def plan(
        self, cache: Path, data: SemanticKitti, class_map: ClassMap, provenance: dict[str, Any] | None = None
    ) -> CachePlan:
        """The cache of this data; the teacher's identity is empty where its files are not here."""
        header = Header(
            content=CONTENT,
            settings={**self.model_dump(mode="json"), "sets": class_map.sets.astype(int).tolist()},
            data=fingerprint(data),
            teacher=IMAGE_TEACHERS.get(self.teacher.kind).identify(self.teacher),
            provenance=provenance or {},
            vocabulary=list(class_map.vocabulary),
        )
        return CachePlan(self.path(cache), KIND, header, data.keys())


class UnitMaker:
    """Makes the units of scans, one process's worth.

    Args:
        source: settings. data: scans. classes: the student's. tools: what a trained teacher needs.
    """

    def __init__(self, source: UnitSource, data: SemanticKitti, classes: ClassTable, tools: Tools) -> None:
        self.source, self.data = source, data
        self.class_map = load_class_map(source.class_map, classes)
        self.things = self.class_map.things(classes)
        self.teacher = build_teacher(source.teacher, tools)
        check_vocabulary(self.teacher.vocabulary, self.class_map, source.class_map)
        self._predict: Callable[[Any], TeacherOutput | None] = Remembering(self.teacher.predict)

    def __call__(self, keys: Sequence[Key]) -> Iterator[Record]:
        """The record of each scan."""
        return map(self.record, keys)

    def record(self, key: Key) -> Record:
        """The record of one scan; no rows at all where it has no picture or the teacher gives none."""
        sequence = self.data.sequences[key[0]]
        scan = sequence.scan(key[1])
        claims: list[Claim] = []
        numbers: list[int] = []
        answered = 0
        views = seen_views(scan, sequence, self.source.projection)
        for view in views:
            output = self._predict(view.shot)
            if output is None:
                continue
            answered += 1
            made = self._lift(output, view, scan.points)
            claims += made
            numbers += [view.number] * len(made)
        vocabulary = len(self.class_map) if self.source.lift.soft else 0
        units = gather(claims, numbers, vocabulary)
        record: Record = {stored: getattr(units, name) for stored, name in _ARRAYS.items()}
        # [points of the scan, views, views with a prediction]
        record["counts"] = np.array([len(scan.points), len(views), answered], dtype=np.int32)
        return record

    def _lift(self, output: TeacherOutput, view: SeenView, points: npt.NDArray[np.float32]) -> list[Claim]:
        noise = Noise(self.source.noise, self.class_map.sets, (view.shot.sequence, view.shot.index, view.number))
        wrong = view.pairs
        if self.source.noise.wrong > 0 and "calibration" in self.source.noise.ways and view.offset == 0:
            optics = turned(view.shot.optics, noise.angles())
            wrong = pairs(*see(points, optics, self.source.projection.visibility))
        frame = PictureFrame(
            points=points,
            pairs=view.pairs,
            wrong_pairs=wrong,
            size=(view.shot.optics.height, view.shot.optics.width),
            picture=view.shot.camera.read,
            allowed=self.class_map.mapped,
            things=self.things,
        )
        claims: list[Claim] = []
        if output.semantic is not None:
            claims += lift_semantic(output.semantic, frame, self.source.lift, noise)
        if output.detections is not None:
            claims += lift_detections(output.detections, frame, self.source.lift, noise)
        return claims


def check_vocabulary(spoken: tuple[str, ...], class_map: ClassMap, name: str) -> None:
    """DataError where a teacher's classes are not the class map's, in order."""
    if tuple(spoken) != class_map.vocabulary:
        raise DataError(
            f"The teacher has {len(spoken)} classes ({', '.join(spoken[:3])}, ..), class map {name} has "
            f"{len(class_map.vocabulary)} ({', '.join(class_map.vocabulary[:3])}, ..); name the map of this teacher."
        )


def build_units(
    source: UnitSource, cache: Path, data: SemanticKitti, classes: ClassTable, tools: Tools, work: Work
) -> None:
    """Build what is missing of the units of a data set. See ``kd_seg.caches.build_cache``."""
    setup = partial(UnitMaker, source, data, classes, tools)
    first = setup()
    plan = source.plan(cache, data, first.class_map, first.teacher.provenance().to_json())
    build_cache(plan, setup, work)


def open_units(source: UnitSource, cache: Path, data: SemanticKitti, classes: ClassTable, fix_command: str) -> Cache:
    """The cache of these units; DataError with the command to build it where there is none that fits."""
    return Cache(source.plan(cache, data, load_class_map(source.class_map, classes)), fix_command)


def read_units(store: Cache, key: Key) -> Units:
    """The units of one scan."""
    return units_of(store.record(key, tuple(_ARRAYS)))


def units_of(record: Record) -> Units:
    """The units in a record of the cache."""
    return Units(**{name: record[stored] for stored, name in _ARRAYS.items()})
