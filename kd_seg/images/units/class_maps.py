"""Class maps: what a 2D teacher's classes may stand for among the student's classes, many-to-one and one-to-many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.core.config import Settings, find_config, read_yaml, validate
from kd_seg.core.errors import ConfigError

SAME = "same"
"""Name of the map of a teacher that speaks the student's own classes."""


class ClassMapFile(Settings):
    """A file of configs/class_maps/: teacher classes in the order of their ids, each with the usual class first."""

    name: str
    student: str
    classes: dict[str, list[str]]


@dataclass(frozen=True)
class ClassMap:
    """Teacher classes and the sets of student classes they stand for.

    Attributes:
        name: of the map.
        vocabulary: teacher class names by teacher class id.
        sets: [C2, C] bool, row = teacher class, column = logit column; an empty row means no unit.
        usual: [C2] int64, the first student class of each set, -1 for an empty one.
    """

    name: str
    vocabulary: tuple[str, ...]
    sets: npt.NDArray[np.bool_]
    usual: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def mapped(self) -> npt.NDArray[np.bool_]:
        """[C2]: teacher classes that stand for anything."""
        result: npt.NDArray[np.bool_] = self.sets.any(axis=1)
        return result

    def likelihoods(self, secondary: float) -> npt.NDArray[np.float32]:
        """[C2, C]: 1 for the usual class of each set, ``secondary`` for the others, 0 outside."""
        table = self.sets.astype(np.float32) * np.float32(secondary)
        rows = np.flatnonzero(self.usual >= 0)
        table[rows, self.usual[rows]] = 1.0
        return table

    def things(self, classes: ClassTable) -> npt.NDArray[np.bool_]:
        """[C2]: teacher classes that may stand for a class with instances."""
        columns = np.zeros(self.sets.shape[1], dtype=bool)
        columns[list(classes.things)] = True
        result: npt.NDArray[np.bool_] = (self.sets & columns).any(axis=1)
        return result


def load_class_map(name: str, classes: ClassTable) -> ClassMap:
    """The class map ``name`` in configs/class_maps/ (or a YAML file) for a class table; "same" is the identity.

    Raises ConfigError if it is missing, made for another table, or names an unknown class.
    """
    if name == SAME:
        return ClassMap(SAME, classes.names, np.eye(len(classes), dtype=bool), np.arange(len(classes)))
    path = Path(name) if name.endswith((".yaml", ".yml")) else find_config(f"class_maps/{name}.yaml")
    content = validate(ClassMapFile, read_yaml(path), str(path))
    if content.student != classes.name:
        raise ConfigError(f"{path} maps onto {content.student}, the run uses {classes.name}; name another class map.")
    if len(content.classes) > 255:
        raise ConfigError(f"{path}: {len(content.classes)} teacher classes, at most 255 fit a byte beside 255 = none.")
    sets = np.zeros((len(content.classes), len(classes)), dtype=bool)
    usual = np.full(len(content.classes), -1, dtype=np.int64)
    for row, (teacher, students) in enumerate(content.classes.items()):
        try:
            columns = list(classes.columns(students))
            sets[row, columns] = True
            usual[row] = columns[0] if columns else -1
        except ConfigError as error:
            raise ConfigError(f"{path}: classes.{teacher}: {error}") from None
    return ClassMap(content.name, tuple(content.classes), sets, usual)
