"""Building the instance library: shards in parallel processes, each written whole; an interrupted build goes on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.instances.clusters import Clusters, stuff_rows
from kd_seg.instances.decoys import clutter_keys
from kd_seg.instances.fingerprint import difference, fingerprint
from kd_seg.instances.library import FORMAT, RECORD, Header, Role, library_folder, read_header, shard_names
from kd_seg.instances.settings import LibrarySettings
from kd_seg.scans import Scan, SemanticKitti

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""``progress(what, total)`` as a context manager that yields ``advance(count)``."""


@dataclass(frozen=True)
class Work:
    """How a build is done.

    Attributes:
        progress: tells a person how far it is.
        mend: the command that builds it, for messages.
        shard: (i, n): do the i-th of n parts, i from 1.
        workers: processes.
        rebuild: throw away what is there.
        device: name of the torch device that image teachers run on.
    """

    progress: Progress
    mend: str
    shard: tuple[int, int] = (1, 1)
    workers: int = 1
    rebuild: bool = False
    device: str = "cpu"

    def mine(self, tasks: list[tuple[str, str, tuple[int, ...]]]) -> list[tuple[str, str, tuple[int, ...]]]:
        """The tasks of this part."""
        part, parts = self.shard
        return tasks[part - 1 :: parts]


@dataclass(frozen=True)
class Roles:
    """Which raw classes are in the library, and why.

    Attributes:
        thing: raw ids of fused things. decoy: raw ids of decoy cars (things that are easy).
        stuff: raw ids of fused static classes. clutter: raw ids that clutter is taken of.
        moving: raw ids of moving things.
    """

    thing: tuple[int, ...]
    decoy: tuple[int, ...]
    stuff: tuple[int, ...]
    clutter: tuple[int, ...]
    moving: frozenset[int]

    @classmethod
    def of(cls, classes: ClassTable, settings: LibrarySettings) -> Roles:
        """From class names; ConfigError names an unknown one."""
        names = settings.classes if settings.classes is not None else [classes.names[c] for c in classes.hard]
        fused = {c + 1 for c in classes.columns(names)}
        stuff = {c + 1 for c in classes.columns(settings.stuff)}
        clutter = {c + 1 for c in classes.columns([n for n in settings.decoy_classes if n in classes.names])} - stuff
        things = {c + 1 for c in classes.things}

        def raw(train: set[int]) -> tuple[int, ...]:
            return tuple(sorted(r for r, t in classes.raw_train.items() if t in train))

        moving = frozenset(r for r, name in classes.raw_names.items() if name.startswith("moving-"))
        return cls(raw(fused), raw(things - fused), raw(stuff), raw(clutter), moving)


def build_library(cache: Path, data: SemanticKitti, classes: ClassTable, settings: LibrarySettings, work: Work) -> Path:
    """Build what is missing of the library of these settings; returns its folder.

    Raises DataError where the folder holds a library of other data (unless ``work.rebuild``), or a scan has no labels
    or pose.
    """
    folder = library_folder(cache, classes, settings)
    if work.rebuild and folder.exists() and work.shard[0] == 1:
        shutil.rmtree(folder)
    _write_header(folder, data, settings, work)
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    tasks = [t for t in work.mine(shard_names(data)) if not (folder / "shards" / t[0]).is_dir()]
    if settings.stuff:
        _write_clusters(folder, data, Roles.of(classes, settings).stuff, sorted({t[1] for t in tasks}), work)
    arguments = [(folder, str(data.root), classes, settings, *task) for task in tasks]
    run_tasks("instance library", build_shard, arguments, [len(t[2]) for t in tasks], work)
    return folder


def run_tasks(what: str, function: Callable[..., None], arguments: list[tuple], weights: list[int], work: Work) -> None:
    """Call ``function`` on each tuple, in ``work.workers`` fresh processes (none forked: field T25), with progress."""
    with work.progress(what, sum(weights)) as advance:
        if work.workers <= 1 or len(arguments) <= 1:
            for one, weight in zip(arguments, weights, strict=True):
                function(*one)
                advance(weight)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(work.workers, mp_context=context) as pool:
            futures = {pool.submit(function, *one): w for one, w in zip(arguments, weights, strict=True)}
            try:
                for future in as_completed(futures):
                    future.result()
                    advance(futures[future])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _write_header(folder: Path, data: SemanticKitti, settings: LibrarySettings, work: Work) -> None:
    now = fingerprint(data)
    if (folder / "header.json").is_file():
        old = read_header(folder, work.mend).data
        changed = difference(old, {name: entry for name, entry in now.items() if name in old})
        if changed is not None:
            raise DataError(
                f"The instance library {folder} does not fit the data: {changed}; "
                f"rebuild it with: {work.mend} --rebuild"
            )
        now = {**old, **now}
    write_text(folder / "header.json", Header(FORMAT, now, settings.model_dump(mode="json")).to_json())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole: to a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a folder of .npy files whole: into a temporary folder beside it, synced, then renamed."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, array in arrays.items():
            with open(temporary / f"{name}.npy", "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)
        if not folder.is_dir():
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_clusters(folder: Path, data: SemanticKitti, raw: tuple[int, ...], names: list[str], work: Work) -> None:
    """The components of static classes, one folder per sequence; every part of a sharded build makes those it needs."""
    (folder / "clusters").mkdir(exist_ok=True)
    missing = [name for name in names if not (folder / "clusters" / name).is_dir()]
    arguments = [(folder / "clusters" / name, str(data.root), name, raw) for name in missing]
    weights = [len(data.sequences[name].indices) for name in missing]
    run_tasks("static clusters", build_clusters, arguments, weights, work)


def build_clusters(folder: Path, root: str, sequence: str, raw: tuple[int, ...]) -> None:
    """Find and write the components of one sequence."""
    clusters = Clusters.of_sequence(SemanticKitti(root, [sequence]).sequences[sequence], raw)
    write_arrays(folder, {"cells": clusters.cells, "component": clusters.component})


def build_shard(
    folder: Path,
    root: str,
    classes: ClassTable,
    settings: LibrarySettings,
    shard: str,
    sequence: str,
    scans: tuple[int, ...],
) -> None:
    """Collect the instances of some scans of a sequence and write the shard whole."""
    reader = SemanticKitti(root, [sequence]).sequences[sequence]
    roles = Roles.of(classes, settings)
    clusters = None
    if settings.stuff:
        at = folder / "clusters" / sequence
        clusters = Clusters(np.load(at / "cells.npy"), np.load(at / "component.npy"))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    first = 0
    for index in scans:
        part = collect(reader.scan(index), classes, roles, settings, clusters)
        part[0]["first"] += first
        first += len(part[1])
        parts.append(part)
    arrays = {
        "records": np.concatenate([p[0] for p in parts]),
        "points": np.concatenate([p[1] for p in parts]),
        "rows": np.concatenate([p[2] for p in parts]),
    }
    write_arrays(folder / "shards" / shard, arrays)


def collect(
    scan: Scan, classes: ClassTable, roles: Roles, settings: LibrarySettings, clusters: Clusters | None = None
) -> tuple[np.ndarray, npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Records of one scan (``first`` from 0), their points and their rows, sorted by key."""
    if scan.labels is None:
        raise DataError(f"Scan {scan.name} has no labels; an instance library needs labelled training sequences.")
    if scan.pose is None:
        raise DataError(f"Scan {scan.name} has no pose; fusing instances needs poses.txt.")
    train = classes.to_train(scan.labels, str(scan.labels_path))
    finite = np.isfinite(scan.points[:, :3]).all(axis=1)
    raw = (scan.labels & 0xFFFF).astype(np.uint16)
    with_id = (scan.labels >> 16) > 0
    keys = np.zeros(len(raw), dtype=np.uint64)
    role = np.zeros(len(raw), dtype=np.uint8)
    wanted = np.isin(raw, roles.thing) & with_id
    keys[wanted] = scan.labels[wanted]
    rows = np.flatnonzero(np.isin(raw, roles.decoy) & with_id)
    rows = rows[_chosen(scan.labels[rows], settings.decoy_cars, settings.seed)]
    keys[rows], role[rows] = scan.labels[rows], Role.DECOY_CAR
    if clusters is not None:
        rows, which = stuff_rows(scan, roles.stuff)
        keys[rows], role[rows] = clusters.keys(scan, rows, which), Role.STUFF
    if settings.decoy_clutter > 0:
        rows = np.flatnonzero(np.isin(raw, roles.clutter) & finite)
        found = clutter_keys(scan.points[rows], raw[rows], scan.pose, settings.decoy_clutter, settings.seed)
        keys[rows], role[rows] = found, Role.DECOY_CLUTTER
    keys[~finite | (train == 0)] = 0
    rng = np.random.default_rng([settings.seed, scan.index])
    return _gather(scan, keys, role, train, roles.moving, settings, rng)


def _chosen(words: npt.NDArray[np.uint32], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether an instance is among the chosen share, by a hash of its word (so the same in every scan)."""
    mixed = (words.astype(np.uint64) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(40)).astype(np.float64) < share * 2.0**24


def _gather(
    scan: Scan,
    keys: npt.NDArray[np.uint64],
    role: npt.NDArray[np.uint8],
    train: npt.NDArray[np.uint8],
    moving: frozenset[int],
    settings: LibrarySettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    order = np.flatnonzero(keys)
    order = order[np.argsort(keys[order], kind="stable")]
    starts = np.flatnonzero(np.r_[True, np.diff(keys[order]) != 0]) if len(order) else np.zeros(0, dtype=np.int64)
    ends = np.r_[starts[1:], len(order)].astype(np.int64)
    records, kept = [], []
    first = 0
    assert scan.labels is not None
    for start, end in zip(starts, ends, strict=True):
        rows = order[start:end]
        if len(rows) < settings.minimum:
            continue
        if role[rows[0]] in (Role.DECOY_CAR, Role.DECOY_CLUTTER) and len(rows) > settings.decoy_points:
            rows = np.sort(rng.choice(rows, settings.decoy_points, replace=False))
        record = np.zeros(1, dtype=RECORD)
        xyz = scan.points[rows, :3]
        word = int(scan.labels[rows[0]])
        record["key"], record["scan"], record["count"], record["first"] = keys[rows[0]], scan.index, len(rows), first
        record["word"], record["train"], record["role"] = word, train[rows[0]], role[rows[0]]
        record["moving"] = (word & 0xFFFF) in moving
        record["centroid"], record["lower"], record["upper"] = xyz.mean(0, np.float64), xyz.min(0), xyz.max(0)
        records.append(record)
        kept.append(rows)
        first += len(rows)
    rows = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
    points = scan.points[rows]
    points[:, 3] = np.nan_to_num(points[:, 3], nan=0.0, posinf=0.0, neginf=0.0)
    return np.concatenate(records) if records else np.zeros(0, dtype=RECORD), points, rows.astype(np.int32)
