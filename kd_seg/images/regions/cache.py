"""Regions of a data set in the teacher cache: feature maps, pairs, and which region each pixel and point belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.caches import Cache, CacheKind, CachePlan, Header, Record, Work, build_cache, cache_path
from kd_seg.core.config import Settings
from kd_seg.core.errors import DataError
from kd_seg.images.fingerprint import fingerprint
from kd_seg.images.projection.cameras import ProjectionSettings, SeenView, seen_views, shots
from kd_seg.images.regions.partitions import PartMap, SuperpixelSettings, components, erode, tiles, whole
from kd_seg.images.regions.sampling import over_parts
from kd_seg.images.teachers import IMAGE_TEACHERS, TeacherEntry, TeacherOutput, Tools, build_teacher
from kd_seg.images.teachers.memory import Remembering
from kd_seg.scans import Key, SemanticKitti

CONTENT = "regions"
KIND = CacheKind("cache of regions", version=1, block=50)
_EMPTY: dict[str, tuple[type, tuple[int, ...]]] = {
    "rows": (np.int32, ()),
    "pixels": (np.float32, (2,)),
    "region": (np.int32, ()),
    "target": (np.int32, ()),
    "cell": (np.int32, ()),
    "weight": (np.float32, ()),
}


class RegionSettings(Settings):
    """What a region is."""

    kind: Literal["view", "tile", "superpixel", "mask", "point"] = "superpixel"
    tiles: tuple[int, int] = Field((4, 12), description="rows and columns of tiles")
    superpixel: SuperpixelSettings = SuperpixelSettings()
    min_pixels: int = Field(100, ge=1, description="smallest component of a teacher's semantic map, for kind mask")
    min_confidence: float = Field(0.5, ge=0, le=1, description="pixels below it belong to no mask")
    erode_px: int = Field(0, ge=0, description="band dropped at region borders in pixels; 2 suits masks of a network")


class RegionSource(Settings):
    """Everything that the regions of a scan depend on."""

    teacher: TeacherEntry
    regions: RegionSettings = RegionSettings()
    projection: ProjectionSettings = ProjectionSettings()

    def path(self, cache: Path) -> Path:
        """Where its cache lies."""
        return cache_path(cache, "images", CONTENT, self.model_dump(mode="json"))

    def plan(self, cache: Path, data: SemanticKitti, provenance: dict[str, Any] | None = None) -> CachePlan:
        """The cache of this data; the teacher's identity is empty where its files are not here."""
        header = Header(
            content=CONTENT,
            settings=self.model_dump(mode="json"),
            data=fingerprint(data),
            teacher=IMAGE_TEACHERS.get(self.teacher.kind).identify(self.teacher),
            provenance=provenance or {},
        )
        return CachePlan(self.path(cache), KIND, header, data.keys())


@dataclass(frozen=True)
class RegionView:
    """One view of a scan as read from the cache.

    Attributes:
        features: [H' * W', D] float16. grid: (H', W'). picture: (H, W).
        rows, pixels: pairs of the unaugmented scan. region: [n] of each pair, -1 = none (empty for kind point).
        target, cell, weight: sparse weights from cells to regions (empty for kind point).
        regions: how many there are.
    """

    features: npt.NDArray[np.float16]
    grid: tuple[int, int]
    picture: tuple[int, int]
    rows: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.float32]
    region: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    cell: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    regions: int


class RegionMaker:
    """Makes the regions of scans, one process's worth."""

    def __init__(self, source: RegionSource, data: SemanticKitti, tools: Tools) -> None:
        self.source, self.data = source, data
        self.teacher = build_teacher(source.teacher, tools)
        self._predict: Callable[[Any], TeacherOutput | None] = Remembering(self.teacher.predict, 4)
        self._width: int | None = None

    def __call__(self, keys: Sequence[Key]) -> Iterator[Record]:
        """The record of each scan."""
        return map(self.record, keys)

    def record(self, key: Key) -> Record:
        """The record of one scan; no views where it has no picture or the teacher gives none."""
        sequence = self.data.sequences[key[0]]
        scan = sequence.scan(key[1])
        views = seen_views(scan, sequence, self.source.projection)
        parts: list[Record] = []
        for view in views:
            output = self._predict(view.shot)
            if output is not None:
                parts.append(self._view(view, output))
        record: Record = {
            name: np.concatenate([p[name] for p in parts]) if parts else np.zeros((0, *shape), dtype=dtype)
            for name, (dtype, shape) in _EMPTY.items()
        }
        record["features"] = (
            np.concatenate([p["features"] for p in parts])
            if parts
            else np.zeros((0, self._feature_width()), np.float16)
        )
        record["sizes"] = np.concatenate([p["sizes"] for p in parts]) if parts else np.zeros((0, 8), dtype=np.int32)
        record["counts"] = np.array([len(scan.points), len(views), len(parts)], dtype=np.int32)
        return record

    def _feature_width(self) -> int:
        """D of the teacher, also for a scan without a prediction: asked of the first picture there is (1 if none)."""
        if self._width is None:
            self._width = 1
            for key in self.data.keys():  # noqa: SIM118 - not a mapping
                for shot in shots(self.data.scan(*key), self.source.projection):
                    output = self._predict(shot)
                    if output is not None and output.features is not None:
                        self._width = output.features.shape[0]
                        return self._width
        return self._width

    def _view(self, view: SeenView, output: TeacherOutput) -> Record:
        if output.features is None:
            raise DataError(
                f"The teacher {self.source.teacher.kind} gives no features for {view.shot.camera.image}; "
                "region alignment needs them."
            )
        depth, height, width = output.features.shape
        self._width = depth
        optics = view.shot.optics
        rows, columns = view.pairs.cells()
        if self.source.regions.kind == "point":
            part_of_pair, count = np.zeros(0, dtype=np.int32), len(view.pairs)
            target, cell, weight = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
        else:
            parts = self._parts(view, output)
            count = int(parts.max()) + 1
            parts = erode(parts, self.source.regions.erode_px)
            part_of_pair = parts[rows, columns]
            weights = over_parts(parts, count, (height, width))
            target, cell, weight = weights.target, weights.cell, weights.weight
        return {
            "rows": view.pairs.rows,
            "pixels": view.pairs.pixels,
            "region": part_of_pair,
            "target": target,
            "cell": cell,
            "weight": weight,
            "features": np.ascontiguousarray(output.features.reshape(depth, -1).T),
            "sizes": np.array(
                [[len(rows), len(part_of_pair), len(target), height, width, optics.height, optics.width, count]],
                np.int32,
            ),
        }

    def _parts(self, view: SeenView, output: TeacherOutput) -> PartMap:
        settings = self.source.regions
        height, width = view.shot.optics.height, view.shot.optics.width
        if settings.kind == "view":
            return whole(height, width)
        if settings.kind == "tile":
            return tiles(height, width, *settings.tiles)
        if settings.kind == "superpixel":
            return settings.superpixel.cut(view.shot.camera.read())
        if output.semantic is not None:
            allowed = np.ones(255, dtype=bool)
            return components(output.semantic, allowed, settings.min_confidence, settings.min_pixels).parts
        if output.detections is not None and output.detections.masks is not None:
            parts = np.full((height, width), -1, dtype=np.int32)
            for number, mask in enumerate(output.detections.masks):
                parts[mask & (parts < 0)] = number
            return parts
        raise DataError(f"The teacher {self.source.teacher.kind} gives no masks; choose other regions.kind.")


def build_regions(source: RegionSource, cache: Path, data: SemanticKitti, tools: Tools, work: Work) -> None:
    """Build what is missing of the regions of a data set. See ``kd_seg.caches.build_cache``."""
    setup = partial(RegionMaker, source, data, tools)
    plan = source.plan(cache, data, setup().teacher.provenance().to_json())
    build_cache(plan, setup, work)


def open_regions(source: RegionSource, cache: Path, data: SemanticKitti, fix_command: str) -> Cache:
    """The cache of these regions; DataError with the command to build it where there is none that fits."""
    return Cache(source.plan(cache, data), fix_command)


def read_regions(store: Cache, key: Key) -> list[RegionView]:
    """The views of one scan."""
    record = store.record(key, (*_EMPTY, "features", "sizes"))
    views = []
    at = dict.fromkeys(("pairs", "region", "weights", "features"), 0)
    for pairs, regions, weights, height, width, high, wide, count in record["sizes"].tolist():
        a, b, c, d = at["pairs"], at["region"], at["weights"], at["features"]
        views.append(
            RegionView(
                features=record["features"][d : d + height * width],
                grid=(height, width),
                picture=(high, wide),
                rows=record["rows"][a : a + pairs],
                pixels=record["pixels"][a : a + pairs],
                region=record["region"][b : b + regions],
                target=record["target"][c : c + weights],
                cell=record["cell"][c : c + weights],
                weight=record["weight"][c : c + weights],
                regions=count,
            )
        )
        at = {"pairs": a + pairs, "region": b + regions, "weights": c + weights, "features": d + height * width}
    return views
