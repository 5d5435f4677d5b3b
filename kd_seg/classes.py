"""Class tables: raw ids on disk, train ids in memory, logit columns in networks. Nothing else converts between them.

Three numberings meet here:

- raw id: lower 16 bits of a label word, as SemanticKITTI's files hold it;
- train id: 0 = ignored, 1..C, in tables, labels, voxel labels and caches (uint8);
- class id: logit column = train id - 1, and 255 = invalid = train id 0 = raw 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.config_files import find_config, read_yaml
from kd_seg.core.errors import ConfigError, DataError

INVALID = 255
"""Class id of a point that has no class: outside the grid, not finite, or ignored."""

_TABLE_SIZE = 1 << 16


@dataclass(frozen=True)
class ClassTable:
    """The training classes and the raw ids behind them.

    Attributes:
        name: of the table, as configs call it.
        names: class names by logit column (C).
        raw_ids: raw id written for each logit column.
        colours: RGB per logit column, uint8 [C, 3].
        things: columns that have instances.
        hard: columns of the hard classes.
        raw_names: name of every known raw id.
        raw_train: train id of every known raw id.
        raw_shares: share of points per raw id in the training data (0 where unknown).
    """

    name: str
    names: tuple[str, ...]
    raw_ids: tuple[int, ...]
    colours: npt.NDArray[np.uint8]
    things: tuple[int, ...]
    hard: tuple[int, ...]
    raw_names: dict[int, str]
    raw_train: dict[int, int]
    raw_shares: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = np.zeros(_TABLE_SIZE, dtype=np.uint8)
        known = np.zeros(_TABLE_SIZE, dtype=bool)
        for raw, train in self.raw_train.items():
            if not 0 <= raw < _TABLE_SIZE or not 0 <= train <= 255:
                raise DataError(f"Class table {self.name}: raw id {raw} or its train id {train} is out of range.")
            table[raw], known[raw] = train, True
        if len(self.raw_ids) > 255 or any(not 0 <= raw < _TABLE_SIZE for raw in self.raw_ids):
            raise DataError(f"Class table {self.name}: its raw ids are out of range or too many.")
        inverse = np.zeros(256, dtype=np.uint32)
        inverse[: len(self.raw_ids)] = self.raw_ids
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "_inverse", inverse)

    def __len__(self) -> int:
        return len(self.names)

    def to_train(self, words: npt.NDArray[np.uint32], where: str) -> npt.NDArray[np.uint8]:
        """Label words [N] (instance bits allowed) to train ids [N]; DataError names ``where`` and an unknown raw id."""
        raw = (words & 0xFFFF).astype(np.uint16)
        unknown = ~self._known[raw]  # type: ignore[attr-defined]
        if unknown.any():
            first = int(np.flatnonzero(unknown)[0])
            raise DataError(
                f"{where}: unknown raw class {int(raw[first])} at point {first} ({int(unknown.sum())} points in all); "
                f"{self.name} lacks it: name another class table (data.classes, --classes)."
            )
        train: npt.NDArray[np.uint8] = self._table[raw]  # type: ignore[attr-defined]
        return train

    def to_train_lenient(self, words: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint8], int]:
        """Label words [N] to train ids [N] with unknown raw ids as 0, as the official tool does; also their count."""
        raw = (words & 0xFFFF).astype(np.uint16)
        unknown = int((~self._known[raw]).sum())  # type: ignore[attr-defined]
        return self._table[raw], unknown  # type: ignore[attr-defined]

    def class_to_raw(self, class_id: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
        """Class ids [N] (255 = invalid) to raw ids [N] for a ``.label`` file; invalid becomes 0."""
        raw: npt.NDArray[np.uint32] = self._inverse[class_id]  # type: ignore[attr-defined]
        return raw

    def class_to_train(self, class_id: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Class ids [N] to train ids [N]; 255 becomes 0 (the sum wraps in uint8 by intent)."""
        return class_id + np.uint8(1)

    def train_to_class(self, train: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Train ids [N] to class ids [N]; 0 becomes 255 (the difference wraps in uint8 by intent)."""
        return train - np.uint8(1)

    def shares(self) -> npt.NDArray[np.float64]:
        """Share of points per logit column [C], from the raw ids' shares."""
        total = np.zeros(len(self))
        for raw, share in self.raw_shares.items():
            if self.raw_train[raw] > 0:
                total[self.raw_train[raw] - 1] += share
        return total

    def columns(self, names: list[str]) -> tuple[int, ...]:
        """Logit columns of class names; an unknown name raises ConfigError with the legal ones."""
        for name in names:
            if name not in self.names:
                raise ConfigError(f"There is no class {name!r} in {self.name}; it has: {', '.join(self.names)}.")
        return tuple(self.names.index(name) for name in names)

    def palette(self) -> npt.NDArray[np.uint8]:
        """Colours [256, 3] indexed by class id; ids without a class (255 too) are dark grey."""
        palette = np.full((256, 3), 0x40, dtype=np.uint8)
        palette[: len(self)] = self.colours
        return palette

    def to_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint's metadata."""
        return {
            "name": self.name,
            "names": list(self.names),
            "raw_ids": list(self.raw_ids),
            "colours": self.colours.tolist(),
            "things": list(self.things),
            "hard": list(self.hard),
            "raw": [
                [raw, self.raw_names[raw], train, self.raw_shares.get(raw, 0.0)]
                for raw, train in self.raw_train.items()
            ],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ClassTable:
        """Inverse of ``to_json``."""
        columns, count = (*content["things"], *content["hard"]), len(content["names"])
        if any(type(column) is not int or not 0 <= column < count for column in columns):
            raise DataError(f"Class table {content['name']}: its things or hard classes name columns that it lacks.")
        return cls(
            name=content["name"],
            names=tuple(content["names"]),
            raw_ids=tuple(content["raw_ids"]),
            colours=np.array(content["colours"], dtype=np.uint8).reshape(-1, 3),
            things=tuple(content["things"]),
            hard=tuple(content["hard"]),
            raw_names={int(raw): name for raw, name, _, _ in content["raw"]},
            raw_train={int(raw): int(train) for raw, _, train, _ in content["raw"]},
            raw_shares={int(raw): float(share) for raw, _, _, share in content["raw"]},
        )


@lru_cache
def load_classes(name: str = "semantic_kitti_19") -> ClassTable:
    """The class table called ``name`` in configs/classes/, or in a YAML file of the user's own.

    Raises ConfigError if it is missing or inconsistent.
    """
    # Here, as a checkpoint brings its table: pydantic takes a tenth of the time in which a network is ready.
    from kd_seg.core.class_file import ClassFile
    from kd_seg.core.config import validate

    path = Path(name) if name.endswith((".yaml", ".yml")) else find_config(f"classes/{name}.yaml")
    content = validate(ClassFile, read_yaml(path), str(path))
    count = len(content.classes)
    if not 1 <= count <= 254:
        raise ConfigError(f"{path}: classes: {count} classes, but 1 to 254 fit a byte beside 255 = invalid.")
    names = [item.name for item in content.classes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{path}: classes: two classes are called {twice[0]!r}; results are told by name.")
    for raw, entry in content.raw.items():
        if not 0 <= entry.train <= count or not 0 <= raw < _TABLE_SIZE:
            raise ConfigError(f"{path}: raw.{raw}: train id {entry.train} or the raw id is out of range; C is {count}.")
    for column, item in enumerate(content.classes):
        if item.raw not in content.raw or content.raw[item.raw].train != column + 1:
            raise ConfigError(f"{path}: classes.{column}: raw {item.raw} is not mapped back to train id {column + 1}.")
    return ClassTable(
        name=content.name,
        names=tuple(item.name for item in content.classes),
        raw_ids=tuple(item.raw for item in content.classes),
        colours=np.array([item.rgb for item in content.classes], dtype=np.uint8),
        things=tuple(i for i, item in enumerate(content.classes) if item.thing),
        hard=tuple(i for i, item in enumerate(content.classes) if item.hard),
        raw_names={raw: entry.name for raw, entry in content.raw.items()},
        raw_train={raw: entry.train for raw, entry in content.raw.items()},
        raw_shares={raw: entry.share for raw, entry in content.raw.items()},
    )
