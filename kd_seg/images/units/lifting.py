"""From a teacher's output on pixels to claims about points: components, masks and boxes lifted through the pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.core.config import Settings
from kd_seg.images.projection.project import Pairs
from kd_seg.images.regions.partitions import Components, SuperpixelSettings, components, describe, erode
from kd_seg.images.teachers.interface import Detections, SemanticMap
from kd_seg.images.units.clutter import ClutterSettings, above_ground, cut_depth
from kd_seg.images.units.noise import Noise, Wrong
from kd_seg.images.units.objects import ObjectSettings, split_objects
from kd_seg.images.units.units import Claim, UnitKind
from kd_seg.scans import Points

Picture = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


class LiftSettings(Settings):
    """How units are made."""

    min_pixels: int = Field(100, ge=1, description="smallest component")
    min_confidence: float = Field(0.5, ge=0, le=1, description="pixels of semantic maps below it are dropped")
    min_score: float = Field(0.3, ge=0, le=1, description="boxes and masks of detectors below it are dropped")
    min_points: int = Field(1, ge=1, description="units with fewer visible points are dropped")
    erode_px: int = Field(2, ge=0, description="band dropped at the borders of masks and components")
    max_points: int = Field(5000, ge=1, description="larger regions are split by superpixel, objects are not")
    soft: bool = Field(False, description="keep label distributions where the teacher gives them")
    superpixel: SuperpixelSettings = SuperpixelSettings()
    clutter: ClutterSettings = ClutterSettings()
    objects: ObjectSettings = ObjectSettings()


@dataclass(frozen=True)
class PictureFrame:
    """One view as the lifting sees it.

    Attributes:
        points: [N, >= 3], the unaugmented scan.
        pairs: visible points and their pixels.
        wrong_pairs: the same under a wrong calibration, for units spoilt on purpose.
        size: (height, width) of the picture. picture: reads it (only where a region must be split).
        allowed, things: [C2] teacher classes that make units, and those with instances.
    """

    points: Points
    pairs: Pairs
    wrong_pairs: Pairs
    size: tuple[int, int]
    picture: Callable[[], Picture]
    allowed: npt.NDArray[np.bool_]
    things: npt.NDArray[np.bool_]


def lift_semantic(semantic: SemanticMap, frame: PictureFrame, settings: LiftSettings, noise: Noise) -> list[Claim]:
    """Claims of the connected components of a semantic map: eroded, things split into objects, large ones cut up."""
    found = components(semantic, frame.allowed, settings.min_confidence, settings.min_pixels)
    parts = erode(found.parts, settings.erode_px)
    parts, found = _split(parts, found, semantic, frame, settings)
    members = _members(parts, frame.pairs, len(found))
    claims = []
    for part in range(len(found)):
        for rows, box in _objects(part, members[part], found, frame, settings):
            teacher_class = int(found.teacher_class[part])
            wrong = noise.draw(teacher_class, box)
            mine = frame.pairs.take(rows)
            if wrong.pixels_move:
                mine = _moved(parts == part, box, frame, wrong)
            if frame.things[teacher_class] and (wrong.pixels_move or not settings.objects.split):
                mine = mine.take(cut_depth(mine.depth, mine.pixels - wrong.shift, box, settings.clutter))
            claim = Claim(
                mine.rows, wrong.teacher_class, float(found.confidence[part]), box, UnitKind.COMPONENT, wrong.kind
            )
            if settings.soft and not wrong.class_flips:
                claim = replace(claim, probabilities=_distribution(semantic, frame.pairs.take(rows), frame.size))
            claims.append(claim)
    return [c for c in claims if len(c.rows) >= settings.min_points]


def _objects(
    part: int, members: Rows, found: Components, frame: PictureFrame, settings: LiftSettings
) -> list[tuple[Rows, npt.NDArray[np.float32]]]:
    """Pairs and box of each object of a component; the component itself where it is stuff, or one object."""
    whole = found.boxes[part]
    if not settings.objects.split or not frame.things[found.teacher_class[part]]:
        return [(members, whole)]
    pairs = frame.pairs.take(members)
    label = split_objects(frame.points[pairs.rows, :3], settings.objects)
    objects = [np.flatnonzero(label == k) for k in range(int(label.max(initial=-1)) + 1)]
    if len(objects) == 1:
        return [(members[objects[0]], whole)]
    return [(members[rows], _around(pairs.pixels[rows])) for rows in objects]


def _around(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Box of whole pixels around places [n, 2]."""
    low, high = np.floor(pixels.min(axis=0)), np.floor(pixels.max(axis=0)) + 1.0
    result: npt.NDArray[np.float32] = np.concatenate([low, high]).astype(np.float32)
    return result


def _moved(mask: npt.NDArray[np.bool_], box: npt.NDArray[np.float32], frame: PictureFrame, wrong: Wrong) -> Pairs:
    """What lies under the part of a mask within a box where both are shifted, or the calibration is wrong."""
    left, top, right, bottom = box.astype(np.int64)
    within = np.zeros_like(mask)
    within[top:bottom, left:right] = mask[top:bottom, left:right]
    pairs = frame.wrong_pairs if wrong.calibration else frame.pairs
    return pairs.take(_inside(within, pairs, wrong.shift))


def lift_detections(found: Detections, frame: PictureFrame, settings: LiftSettings, noise: Noise) -> list[Claim]:
    """Claims of boxes or masks: masks eroded, all cut by depth, boxes freed of ground."""
    claims = []
    for k in range(len(found.classes)):
        teacher_class, confidence = int(found.classes[k]), float(found.confidence[k])
        if confidence < settings.min_score or not frame.allowed[teacher_class]:
            continue
        wrong = noise.draw(teacher_class, found.boxes[k])
        pairs = frame.wrong_pairs if wrong.calibration else frame.pairs
        if found.masks is not None:
            mask = erode(np.where(found.masks[k], 0, -1).astype(np.int32), settings.erode_px) == 0
            mine = pairs.take(_inside(mask, pairs, wrong.shift))
        else:
            place = pairs.pixels - wrong.shift
            low, high = found.boxes[k, :2], found.boxes[k, 2:]
            mine = pairs.take(((place >= low) & (place < high)).all(axis=1))
        if frame.things[teacher_class] or found.masks is None:
            mine = mine.take(cut_depth(mine.depth, mine.pixels - wrong.shift, found.boxes[k], settings.clutter))
        if found.masks is None:
            mine = mine.take(above_ground(frame.points[mine.rows, :3], frame.points, settings.clutter))
        kind = UnitKind.BOX if found.masks is None else UnitKind.MASK
        claims.append(
            replace(Claim(mine.rows, wrong.teacher_class, confidence, found.boxes[k], kind), spoilt=wrong.kind)
        )
    return [c for c in claims if len(c.rows) >= settings.min_points]


def _distribution(semantic: SemanticMap, under: Pairs, size: tuple[int, int]) -> npt.NDArray[np.float16] | None:
    """Mean label distribution over the pixels of some pairs, or None where the teacher gives none."""
    table = semantic.probabilities
    if table is None or len(under) == 0:
        return None
    rows = (under.pixels[:, 1] * (table.shape[1] / size[0])).astype(np.int64).clip(0, table.shape[1] - 1)
    columns = (under.pixels[:, 0] * (table.shape[2] / size[1])).astype(np.int64).clip(0, table.shape[2] - 1)
    mean = table[:, rows, columns].astype(np.float32).mean(axis=1)
    result: npt.NDArray[np.float16] | None = (mean / max(float(mean.sum()), 1e-6)).astype(np.float16)
    return result


def _split(
    parts: npt.NDArray[np.int32], found: Components, semantic: SemanticMap, frame: PictureFrame, settings: LiftSettings
) -> tuple[npt.NDArray[np.int32], Components]:
    """Cut regions of more than ``max_points`` visible points by superpixel, so that agreement is local.

    Those of classes with instances fall into objects instead.
    """
    rows, columns = frame.pairs.cells()
    of_pair = parts[rows, columns]
    sizes = np.bincount(of_pair[of_pair >= 0], minlength=len(found))
    whole = frame.things[found.teacher_class] & settings.objects.split
    large = np.flatnonzero((sizes > settings.max_points) & ~whole)
    if len(large) == 0:
        return parts, found
    pieces = settings.superpixel.cut(frame.picture())
    chosen = np.isin(parts, large)
    code = np.where(chosen, parts.astype(np.int64) * (int(pieces.max()) + 1) + pieces, -1)
    names, inverse = np.unique(code[chosen], return_inverse=True)
    split = parts.copy()
    split[chosen] = len(found) + inverse
    table = describe(split, len(found) + len(names), semantic)
    # What the split left of the large ones is empty; small parts keep their own description.
    return split, Components(
        split,
        np.concatenate([found.teacher_class, table.teacher_class[len(found) :]]),
        np.concatenate([found.confidence, table.confidence[len(found) :]]),
        np.concatenate([found.boxes, table.boxes[len(found) :]]),
    )


def _members(parts: npt.NDArray[np.int32], pairs: Pairs, count: int) -> list[Rows]:
    """Pairs in each part, ascending, by one sort."""
    rows, columns = pairs.cells()
    of_pair = parts[rows, columns]
    order = np.argsort(of_pair, kind="stable")
    bounds = np.searchsorted(of_pair[order], np.arange(count + 1))
    return [order[bounds[k] : bounds[k + 1]] for k in range(count)]


def _inside(mask: npt.NDArray[np.bool_], pairs: Pairs, shift: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which pairs lie in a mask [H, W] that was moved by ``shift`` pixels."""
    place = np.floor(pairs.pixels - shift).astype(np.int64)
    height, width = mask.shape
    here = (place[:, 0] >= 0) & (place[:, 0] < width) & (place[:, 1] >= 0) & (place[:, 1] < height)
    result = np.zeros(len(pairs), dtype=bool)
    result[here] = mask[place[here, 1], place[here, 0]]
    return result
