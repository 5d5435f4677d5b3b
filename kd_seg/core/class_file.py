"""What a file of configs/classes/ holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kd_seg.core.config import Settings

Channel = Annotated[int, Field(ge=0, le=255)]
"""Red, green or blue."""


class ClassEntry(Settings):
    """One training class as the YAML has it."""

    name: str
    raw: int
    rgb: tuple[Channel, Channel, Channel]
    thing: bool = False
    hard: bool = False


class RawEntry(Settings):
    """One raw id as the YAML has it."""

    name: str
    train: int
    share: float = 0.0


class ClassFile(Settings):
    """A file of configs/classes/."""

    name: str
    classes: list[ClassEntry]
    raw: dict[int, RawEntry]
