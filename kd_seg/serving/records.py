"""What kd-seg predict wrote into a folder, with which checkpoint and settings: so that it resumes and never mixes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from kd_seg.core.config import digest
from kd_seg.core.errors import DataError, UsageError
from kd_seg.serving.sources import Task

NAME = ".kd_seg_predictions"
"""File name, followed by the part of a shard; one line of JSON per file that was begun."""


@dataclass(frozen=True)
class Entry:
    """One .label file.

    Attributes:
        fingerprint: of checkpoint and settings.
        source: size and modification time in ns of the point file.
        points, invalid: as counted.
        content: digest of the file's bytes; "" in records of earlier releases.
    """

    fingerprint: str
    source: tuple[int, int]
    points: int
    invalid: int
    content: str = ""


class Record:
    """The record of one output folder.

    Args:
        root: the folder.
        fingerprint: of checkpoint and settings, see ``fingerprint``.
        part: "i of n" of a shard, or "" for all; each has a file of its own.
    """

    def __init__(self, root: Path, fingerprint: str, part: str = "") -> None:
        self.root, self.fingerprint = root, fingerprint
        self._file = root / f"{NAME}{part}.jsonl"
        self.entries: dict[str, Entry] = {}
        for path in sorted(root.glob(f"{NAME}*.jsonl")) if root.is_dir() else []:
            self.entries.update(_read(path))

    def waiting(self, tasks: Sequence[Task], overwrite: bool, mixes: bool = True) -> list[Task]:
        """The tasks that are not done yet.

        Args:
            overwrite: replace what is there; a file that holds what this command would write is left.
            mixes: whether other files of the folder belong to the same predictions.

        Raises UsageError where a file is there that this command did not write, or that it wrote with another
        checkpoint or other settings.
        """
        names = {self._name(task.target): task for task in tasks}
        if not overwrite:
            for name, task in names.items():
                if os.path.lexists(task.target) and name not in self.entries:
                    raise UsageError(f"{task.target} exists and kd-seg predict did not write it; choose another --out, "
                                     "or replace it with --overwrite.")  # fmt: skip
            others = [
                n for n, e in self.entries.items() if e.fingerprint != self.fingerprint and (self.root / n).exists()
            ]
            if mixes and others:
                raise UsageError(f"{self.root} holds predictions of another checkpoint or other settings, such as "
                                 f"{others[0]}; choose another --out, or replace them with --overwrite.")  # fmt: skip
        return [task for name, task in names.items() if not self._is_done(name, task, overwrite)]

    def begin(self, task: Task, content: bytes, invalid: int) -> None:
        """Note a file right before its ``content`` is written; whatever stands there then is known to be ours."""
        entry = Entry(self.fingerprint, _stamp(task.points), len(content) // 4, invalid, _digest(content))
        name = self._name(task.target)
        self.entries[name] = entry
        self._file.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"file": name, **asdict(entry)}) + "\n"
        with open(self._file, "a+b") as file:
            if file.tell() and not _ends_line(file):  # a kill or a full disk cut the last line off
                line = "\n" + line
            file.write(line.encode())

    def _is_done(self, name: str, task: Task, exactly: bool) -> bool:
        entry = self.entries.get(name)
        if entry is None or entry.fingerprint != self.fingerprint or entry.source != _stamp(task.points):
            return False
        try:
            if task.target.stat().st_size != 4 * entry.points:
                return False
            return not exactly or _digest(task.target.read_bytes()) == entry.content
        except OSError:
            return False

    def _name(self, target: Path) -> str:
        return target.relative_to(self.root).as_posix()


def fingerprint(checkpoint: str, *settings: Any) -> str:
    """Digest of all that labels depend on beside the points."""
    return digest([checkpoint, json.loads(json.dumps([asdict(each) for each in settings]))])


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _ends_line(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the path.") from None
    return status.st_size, status.st_mtime_ns


def _read(path: Path) -> dict[str, Entry]:
    """The entries of a file; a line that a kill cut off, or that is none, is left out."""
    entries: dict[str, Entry] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
            size, modified = content["source"]
            entries[str(content["file"])] = Entry(
                str(content["fingerprint"]),
                (int(size), int(modified)),
                int(content["points"]),
                int(content["invalid"]),
                str(content.get("content", "")),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
    return entries
