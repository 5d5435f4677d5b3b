"""The header of a cache: what it holds and what it was made from; one that does not fit is refused with the command."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kd_seg.caches.fingerprint import Fingerprint, difference
from kd_seg.core.config import digest
from kd_seg.core.errors import DataError
from kd_seg.core.files import locked, write_json
from kd_seg.scans import Key

HEADER = "header.json"


@dataclass(frozen=True)
class CacheKind:
    """One kind of cache.

    Attributes:
        name: as messages and progress call it, such as "instance library".
        version: of what its arrays mean; raised when they change.
        block: scan numbers per shard.
    """

    name: str
    version: int
    block: int


@dataclass(frozen=True)
class Header:
    """What a cache is and what it was made from.

    Attributes:
        content: what its arrays are, such as "units".
        settings: all that its content depends on besides data and teacher.
        data: fingerprint by sequence.
        teacher: identity of the files of the teacher that made it; empty = there is none, or its files are not here.
        provenance: what that teacher was trained on.
        vocabulary: names of the teacher's classes.
        version: of the kind.
    """

    content: str
    settings: dict[str, Any]
    data: Fingerprint
    teacher: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    vocabulary: list[str] = field(default_factory=list)
    version: int = 1


@dataclass(frozen=True)
class CachePlan:
    """A cache that is to be built, or that must be there.

    Attributes:
        folder: of it; other settings belong in another folder (``cache_path``).
        header: what it must say; ``version`` is taken from the kind.
        keys: the scans that it must hold.
    """

    folder: Path
    kind: CacheKind
    header: Header
    keys: list[Key]


def cache_path(cache: Path, room: str, content: str, settings: dict[str, Any]) -> Path:
    """Folder of a cache in a room ("images") of the data root's cache folder; other settings make another folder."""
    return cache / room / f"{content}-{digest(settings)}"


def read_header(folder: Path, kind: CacheKind, fix_command: str) -> Header:
    """The header of a cache.

    Raises:
        DataError: it is missing, broken or of another version; the message names the command that builds it.
    """
    path = folder / HEADER
    if not path.is_file():
        raise DataError(f"There is no {kind.name} {folder}; build it with: {fix_command}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"] if "version" in content else content["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is broken; rebuild the {kind.name} with: {fix_command} --rebuild") from None
    if version != kind.version:
        raise DataError(
            f"{path}: {kind.name} of format {version}, this build reads {kind.version}; rebuild it with: "
            f"{fix_command} --rebuild"
        )
    try:
        header = Header(**content)
        complete = all(isinstance(entry, dict) for entry in (header.data, *header.data.values()))
    except (TypeError, AttributeError):
        complete = False
    if not complete:
        raise DataError(f"{path} lacks entries; rebuild the {kind.name} with: {fix_command} --rebuild")
    return header


def check_header(plan: CachePlan, found: Header, fix_command: str) -> None:
    """Compare a header with what is wanted; the cache may hold more sequences.

    An empty ``teacher`` of the plan (its files are not here) is not compared.

    Raises:
        DataError: it was made with other settings, by another teacher or from other data, or lacks a sequence.
    """
    wanted, problem = plan.header, None
    if found.content != wanted.content or found.settings != wanted.settings:
        problem = "it was made with other settings"
    elif wanted.teacher and found.teacher != wanted.teacher:
        problem = "the teacher's files changed since"
    elif changed := difference(found.data, wanted.data):
        problem = f"{changed} changed"
    if problem is not None:
        raise DataError(
            f"The {plan.kind.name} {plan.folder} does not fit: {problem}; rebuild it with: {fix_command} --rebuild"
        )
    absent = [name for name in wanted.data if name not in found.data]
    if absent:
        raise DataError(f"The {plan.kind.name} {plan.folder} has no sequence {absent[0]}; add it with: {fix_command}")


def write_header(plan: CachePlan, fix_command: str) -> None:
    """Write the plan's header, with the sequences that the cache already has; nothing where it says all that already.

    Raises:
        DataError: the folder holds a cache that does not fit.
    """
    header = replace(plan.header, version=plan.kind.version)
    with locked(plan.folder):  # another process may add other sequences at the same moment
        if (plan.folder / HEADER).is_file():
            old = read_header(plan.folder, plan.kind, fix_command)
            known = {name: entry for name, entry in header.data.items() if name in old.data}
            check_header(replace(plan, header=replace(header, data=known)), old, fix_command)
            header = replace(header, data={**old.data, **header.data})
            if header == old:
                return
        write_json(plan.folder / HEADER, asdict(header), sort_keys=True)
