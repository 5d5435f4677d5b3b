"""Evaluation: what was counted, over what, and the metrics of it. Evaluations of parts add up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.core.files import write_json
from kd_seg.evaluation.confusion import DISTANCES, Matrix
from kd_seg.evaluation.metrics import Scores, scores

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """Counts over scans; ``a + b`` is the evaluation of the scans of both.

    Attributes:
        classes: the class table that was counted in.
        scans, points: how many; points are all points of the scans, unlabelled ones too.
        matrix: [C + 1, C + 1], rows predicted train ids, columns true ones.
        by_distance: [D, C + 1, C + 1] for confusion.DISTANCES, or None if it was not asked for.
        outside: points that the student could not see (outside its grid, not finite); they count as predicted 0.
        unknown: predicted raw ids that the class table lacks; they count as predicted 0.
        about: what was evaluated on what: plain data, kept in the JSON ("what", "kind", "data", "sequences", "input",
            "shard"); of a sum, what both have in common, and "parts", what each of the evaluations in it is about.
    """

    classes: ClassTable
    scans: int
    points: int
    matrix: Matrix
    by_distance: Matrix | None = None
    outside: int = 0
    unknown: int = 0
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, classes: ClassTable, distances: bool = False) -> Evaluation:
        """No scans yet."""
        side = len(classes) + 1
        matrix = np.zeros((side, side), dtype=np.int64)
        by_distance = np.zeros((len(DISTANCES), side, side), dtype=np.int64) if distances else None
        return cls(classes, 0, 0, matrix, by_distance)

    def __add__(self, other: Evaluation) -> Evaluation:
        if self.classes.names != other.classes.names:
            raise DataError(
                f"An evaluation over {self.classes.name} and one over {other.classes.name} cannot be added; "
                "evaluate both with the same classes."
            )
        both = self.by_distance is not None and other.by_distance is not None
        about = {key: value for key, value in self.about.items() if key != "parts" and other.about.get(key) == value}
        parts = [*self.parts, *other.parts]
        return replace(
            self,
            scans=self.scans + other.scans,
            points=self.points + other.points,
            matrix=self.matrix + other.matrix,
            by_distance=self.by_distance + other.by_distance if both else None,  # type: ignore[operator]
            outside=self.outside + other.outside,
            unknown=self.unknown + other.unknown,
            about={**about, "parts": parts} if parts else about,
        )

    @property
    def parts(self) -> list[dict[str, Any]]:
        """What each of the evaluations that were added up is about; of one that is no sum, its own ``about``."""
        whole = [self.about] if self.about else []
        return list(self.about.get("parts", whole))

    @property
    def scores(self) -> Scores:
        """Metrics over all points."""
        return scores(self.matrix, self.classes)

    def distance_scores(self) -> list[tuple[float, float, Scores]]:
        """(near, far, metrics) per interval of range in metres; empty if it was not asked for."""
        if self.by_distance is None:
            return []
        return [
            (near, far, scores(m, self.classes)) for (near, far), m in zip(DISTANCES, self.by_distance, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """The fixed keys of ``kd-seg eval --json``, then the counts they were made from."""
        content: dict[str, Any] = {"scans": self.scans, "points": self.points, **self.scores.to_json()}
        content["outside_share"] = self.outside / self.points if self.points else 0.0
        content["unknown_raw_ids"] = self.unknown
        if self.by_distance is not None:
            content["distances"] = [{"near": n, "far": f, **s.to_json()} for n, f, s in self.distance_scores()]
        content["counts"] = {
            "format": FORMAT,
            "outside": self.outside,
            "matrix": self.matrix.tolist(),
            "by_distance": None if self.by_distance is None else self.by_distance.tolist(),
        }
        content["classes"] = self.classes.to_json()
        content["about"] = self.about
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any], where: str) -> Evaluation:
        """Inverse of ``to_json``; DataError naming ``where`` if counts are missing or do not fit."""
        try:
            counts = content["counts"]
            if counts["format"] != FORMAT:
                raise DataError(f"{where} has format {counts['format']}, this build reads {FORMAT}; evaluate again.")
            classes = ClassTable.from_json(content["classes"])
            by_distance = counts["by_distance"]
            evaluation = cls(
                classes=classes,
                scans=int(content["scans"]),
                points=int(content["points"]),
                matrix=np.array(counts["matrix"], dtype=np.int64),
                by_distance=None if by_distance is None else np.array(by_distance, dtype=np.int64),
                outside=int(counts["outside"]),
                unknown=int(content["unknown_raw_ids"]),
                about=dict(content["about"]),
            )
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise DataError(f"{where} is no evaluation of kd-seg eval --json ({error}); write it again.") from None
        counted = (evaluation.scans, evaluation.points, evaluation.outside, evaluation.unknown)
        if not all(0 <= number < 1 << 62 for number in counted) or (evaluation.matrix < 0).any():
            raise DataError(f"{where} holds counts that are none; evaluate again.")
        if not isinstance(evaluation.about.get("parts", []), list) or not all(map(_is_about, evaluation.parts)):
            raise DataError(f"{where} does not tell what was evaluated (about); evaluate again.")
        side = len(classes) + 1
        shapes_fit = evaluation.matrix.shape == (side, side) and (
            evaluation.by_distance is None or evaluation.by_distance.shape == (len(DISTANCES), side, side)
        )
        if not shapes_fit:
            raise DataError(
                f"{where} has a matrix of shape {evaluation.matrix.shape} for {side - 1} classes; evaluate again."
            )
        return evaluation


def _is_about(part: Any) -> bool:
    """Whether sequences and shard of what an evaluation is about can be compared with another's."""
    if not isinstance(part, dict) or not isinstance(part.get("shard"), str | None):
        return False
    names = part.get("sequences", [])
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def read_evaluation(path: Path) -> Evaluation:
    """Read an ``evaluation.json``; DataError names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); write it with kd-seg eval --out.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; write it with kd-seg eval --out.")
    return Evaluation.from_json(content, str(path))


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json`` whole."""
    write_json(path, evaluation.to_json(), indent=None)
