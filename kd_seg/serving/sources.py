"""From what a user names to the point files behind it, and where the labels of each go."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_seg.core.errors import DataError, UsageError
from kd_seg.scans import BAG_SUFFIXES, FileFormat, KittiSequence, SemanticKitti, is_bag
from kd_seg.scans.point_files import READERS

_OTHER_OUTPUTS = {*READERS, *BAG_SUFFIXES, ".txt", ".png", ".json"}


@dataclass(frozen=True)
class Task:
    """One point file to be labelled."""

    points: Path
    target: Path


def expand(names: Iterable[Path]) -> list[Path]:
    """The paths that names stand for: ``~`` is the home folder, and a pattern that no shell expanded its matches.

    Raises UsageError for ``-``, for a path that does not exist and for a pattern without matches.
    """
    found: list[Path] = []
    for name in names:
        if str(name) == "-":
            raise UsageError("Points cannot be read from standard input; write them to a file and name that.")
        path = home(name)
        if not os.path.lexists(path) and glob.has_magic(str(path)):
            matches = sorted(glob.glob(str(path)))
            if not matches:
                raise UsageError(f"No file matches {path}; check the pattern.")
            found += [Path(match) for match in matches]
        elif not path.exists():
            dangling = "is a link to something that does not exist" if path.is_symlink() else "does not exist"
            raise UsageError(f"{path} {dangling}; check the path.")
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def home(path: Path) -> Path:
    """The path with ``~`` and ``~user`` replaced; as it is where there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def named(path: Path) -> Path:
    """The shipped checkpoint of that name where there is no such file, else the path with ``~`` replaced."""
    path = home(path)
    if path.suffix or path.exists():
        return path
    from kd_seg.checkpoint import resolve

    return resolve(path)


def plan(
    sources: Sequence[Path], out: Path, part: int = 1, parts: int = 1, form: FileFormat = FileFormat()
) -> list[Task]:
    """What is to be labelled and where it goes.

    Scans of a sequence or data root go to ``out/sequences/NN/predictions/XXXXXX.label``; a single point file to ``out``
    if that ends in .label, other point files to ``out/STEM.label``.

    Args:
        sources: point files, folders of them, sequences (or their velodyne/), data roots (or their sequences/).
        part, parts: take every ``parts``-th file from the ``part``-th (from 1).

    Raises:
        UsageError: a source cannot be labelled, two would be written to one file, or ``out`` is a labels/ folder or of
            another kind. DataError: a folder is not what it should be.
    """
    single = len(sources) == 1 and sources[0].is_file()
    if out.suffix.lower() in _OTHER_OUTPUTS and not out.is_dir():
        raise UsageError(f"--out {out.name}: labels are written as .label files; give a folder or a .label file.")
    if out.suffix == ".label" and not single:
        raise UsageError(f"--out {out.name}: several scans are labelled, so --out must be a folder.")
    if parts > 1 and single:
        raise UsageError("--shard divides many scans; there is only one.")
    tasks: list[Task] = []
    for source in sources:
        tasks += _tasks(source, out, form)
    if not tasks:
        raise DataError(f"{', '.join(map(str, sources))} holds no scan; there is nothing to label.")
    _check_targets(tasks)
    return tasks[part - 1 :: parts]


def _tasks(source: Path, out: Path, form: FileFormat) -> list[Task]:
    if is_bag(source):
        raise UsageError(f"{source} is a bag, which is labelled alone; name one bag, or point files.")
    if source.is_file():
        if source.suffix.lower() not in READERS:
            known = ", ".join([*READERS, *BAG_SUFFIXES])
            raise UsageError(f"{source} is no point file or bag that can be labelled; known suffixes: {known}.")
        return [Task(source, out if out.suffix == ".label" else out / f"{source.stem}.label")]
    if not source.is_dir():
        raise UsageError(f"{source} is neither a file nor a folder; copy its content to a file first.")
    sequences = sequences_of(source, form)
    if sequences is None:
        return [Task(path, out / f"{path.stem}.label") for path in loose_files(source)]
    tasks = []
    for sequence in sequences:
        folder = out / "sequences" / sequence.name / "predictions"
        paths = (sequence.points_path(index) for index in sequence.indices)
        tasks += [Task(path, folder / f"{path.stem}.label") for path in paths]
    return tasks


def sequences_of(folder: Path, form: FileFormat = FileFormat()) -> list[KittiSequence] | None:
    """The sequences of a data root, of its sequences/, of a sequence or of its velodyne/; None for other folders."""
    if (folder / "velodyne").is_dir():
        return [KittiSequence(_named(folder), form)]
    if folder.resolve().name == "velodyne":
        return [KittiSequence(folder.resolve().parent, form)]
    if (folder / "sequences").is_dir():
        return list(SemanticKitti(folder, form=form).sequences.values())
    if folder.resolve().name == "sequences":
        return list(SemanticKitti(folder.resolve().parent, form=form).sequences.values())
    return None


def _named(folder: Path) -> Path:
    """A sequence's folder under a path that ends in its name, "." too."""
    return folder if folder.name not in {"", ".."} else folder.resolve()


def loose_files(folder: Path) -> list[Path]:
    """The point files right inside a folder, by name; UsageError says what else is there where there is none."""
    entries = sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    files = [folder / entry for entry in entries if Path(entry).suffix.lower() in READERS]
    if not files:
        others = ", ".join(entries[:6]) or "nothing"
        raise UsageError(
            f"{folder} is no data root (no sequences/), no sequence (no velodyne/) and holds no point file "
            f"({', '.join(READERS)}); it holds {others}{' ...' if len(entries) > 6 else ''}."
        )
    return files


def _check_targets(tasks: list[Task]) -> None:
    """No two scans in one file, and no target in a data set's labels."""
    seen: dict[Path, Path] = {}
    for task in tasks:
        other = seen.setdefault(task.target, task.points)
        if other != task.points:
            raise UsageError(
                f"{other} and {task.points} would both be written to {task.target}; label them into two folders."
            )
    for folder in {task.target.parent for task in tasks}:
        real = folder.resolve()
        if real.name == "labels" and (real.parent / "velodyne").is_dir():
            raise UsageError(
                f"--out: {folder} holds the true labels of a data set, which are never replaced; choose another."
            )
