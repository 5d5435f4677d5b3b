"""Building the instance library from labelled scans with poses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from kd_seg.caches import Record, Work, build_cache
from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.core.files import write_arrays
from kd_seg.core.processes import run_tasks
from kd_seg.core.progress import Advance
from kd_seg.instances.clusters import Clusters
from kd_seg.instances.collect import collect
from kd_seg.instances.library import library_plan
from kd_seg.instances.records import as_bytes
from kd_seg.instances.roles import Roles
from kd_seg.instances.settings import LibrarySettings
from kd_seg.scans import Key, SemanticKitti


def build_library(cache: Path, data: SemanticKitti, classes: ClassTable, settings: LibrarySettings, work: Work) -> None:
    """Build what is missing of the library of these settings.

    Raises:
        DataError: the folder holds a library of other data (unless ``work.rebuild``), or a scan has no labels or pose.
    """
    plan = library_plan(cache, data, classes, settings)
    before = partial(_find_components, plan.folder, data, classes, settings, work)
    build_cache(plan, partial(LibraryMaker, plan.folder, data, classes, settings), work, before)


def _find_components(
    folder: Path, data: SemanticKitti, classes: ClassTable, settings: LibrarySettings, work: Work, keys: Sequence[Key]
) -> None:
    """Components of static classes in the sequences of ``keys``, where any are fused and they are not there yet."""
    if not settings.stuff:
        return
    raw = Roles.of(classes, settings).stuff
    names = [name for name in sorted({name for name, _ in keys}) if not _components_path(folder, name).is_file()]
    with work.progress("static components", sum(len(data.sequences[name].indices) for name in names)) as advance:
        tasks = [(_components_path(folder, name), name) for name in names]
        run_tasks(partial(_ComponentFinder, data, raw), tasks, work.workers, advance)


def _components_path(folder: Path, sequence: str) -> Path:
    return folder / "clusters" / f"{sequence}.npz"


def _read_components(path: Path) -> Clusters:
    try:
        with np.load(path) as found:
            return Clusters(found["cells"], found["component"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and prepare again.") from None


@dataclass(frozen=True)
class _ComponentFinder:
    data: SemanticKitti
    raw: tuple[int, ...]

    def __call__(self, path: Path, sequence: str, advance: Advance) -> None:
        """Find and write the components of one sequence."""
        clusters = Clusters.of_sequence(self.data.sequences[sequence], self.raw)
        write_arrays(path, {"cells": clusters.cells, "component": clusters.component})
        advance(len(self.data.sequences[sequence].indices))


class LibraryMaker:
    """Makes the records of scans, one process's worth.

    Static classes have no ids; their components (``Clusters``) lie per sequence in ``clusters/`` of ``folder``.
    """

    def __init__(self, folder: Path, data: SemanticKitti, classes: ClassTable, settings: LibrarySettings) -> None:
        self.folder, self.data, self.classes, self.settings = folder, data, classes, settings
        self.roles = Roles.of(classes, settings)
        self._clusters: dict[str, Clusters] = {}

    def __call__(self, keys: Sequence[Key]) -> Iterator[Record]:
        """Records, points and rows of each scan."""
        for name, index in keys:
            scan = self.data.scan(name, index)
            records, points, rows = collect(scan, self.classes, self.roles, self.settings, self._components(name))
            yield {"records": as_bytes(records), "points": points, "rows": rows}

    def _components(self, name: str) -> Clusters | None:
        if not self.settings.stuff:
            return None
        if name not in self._clusters:
            self._clusters[name] = _read_components(_components_path(self.folder, name))
        return self._clusters[name]
