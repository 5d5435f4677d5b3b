"""The instances of one scan: which points belong to which record of the library."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.instances.clusters import Clusters, stuff_rows
from kd_seg.instances.decoys import clutter_keys
from kd_seg.instances.records import RECORD, Records, Role
from kd_seg.instances.roles import Roles
from kd_seg.instances.settings import LibrarySettings
from kd_seg.scans import Points, Scan


def collect(
    scan: Scan, classes: ClassTable, roles: Roles, settings: LibrarySettings, clusters: Clusters | None = None
) -> tuple[Records, Points, npt.NDArray[np.int32]]:
    """Records [K] of one scan (``first`` from 0), their points [M, 4] in its LiDAR frame, their rows [M] in its file.

    Sorted by key. Raises DataError where the scan has no labels or no pose.
    """
    if scan.labels is None:
        raise DataError(f"Scan {scan.name} has no labels; an instance library needs labelled training sequences.")
    if scan.pose is None:
        raise DataError(f"Scan {scan.name} has no pose; fusing instances needs poses.txt.")
    train = classes.to_train(scan.labels, str(scan.labels_path))
    keys, role = _keys(scan, roles, settings, clusters)
    keys[~np.isfinite(scan.points[:, :3]).all(axis=1) | (train == 0)] = 0
    rng = np.random.default_rng([settings.seed, scan.index])
    groups = [group for group in _groups(keys) if len(group) >= settings.minimum]
    kept = [_thinned(group, int(role[group[0]]), settings.decoy_points, rng) for group in groups]
    records = [_record(scan, group, int(keys[group[0]]), int(role[group[0]]), train) for group in kept]
    table = np.concatenate([np.zeros(0, dtype=RECORD), *records])
    table["first"] = np.cumsum(table["count"], dtype=np.int64) - table["count"]
    table["moving"] = np.isin(table["word"] & 0xFFFF, list(roles.moving))
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *kept])
    points = scan.points[rows]
    points[:, 3] = np.nan_to_num(points[:, 3], nan=0.0, posinf=0.0, neginf=0.0)
    return table, points, rows.astype(np.int32)


def _keys(
    scan: Scan, roles: Roles, settings: LibrarySettings, clusters: Clusters | None
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Key [N] of the record that each point belongs to, 0 = none, and its Role [N]."""
    assert scan.labels is not None
    assert scan.pose is not None
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
    return keys, role


def _chosen(words: npt.NDArray[np.uint32], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether an instance is among the chosen share, by a hash of its word (so the same in every scan)."""
    mixed = (words.astype(np.uint64) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(40)).astype(np.float64) < share * 2.0**24


def _groups(keys: npt.NDArray[np.uint64]) -> list[npt.NDArray[np.int64]]:
    """Rows of each key but 0, ascending; keys ascending."""
    order = np.flatnonzero(keys)
    order = order[np.argsort(keys[order], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1) if len(order) else []


def _thinned(rows: npt.NDArray[np.int64], role: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """At most ``most`` rows of a decoy, drawn; all of others."""
    if role not in (Role.DECOY_CAR, Role.DECOY_CLUTTER) or len(rows) <= most:
        return rows
    return np.sort(rng.choice(rows, most, replace=False))


def _record(scan: Scan, rows: npt.NDArray[np.int64], key: int, role: int, train: npt.NDArray[np.uint8]) -> Records:
    assert scan.labels is not None
    xyz = scan.points[rows, :3]
    record = np.zeros(1, dtype=RECORD)
    record["key"], record["scan"], record["count"] = key, scan.index, len(rows)
    record["word"], record["train"], record["role"] = scan.labels[rows[0]], train[rows[0]], role
    record["centroid"], record["lower"], record["upper"] = xyz.mean(0, np.float64), xyz.min(0), xyz.max(0)
    return record
