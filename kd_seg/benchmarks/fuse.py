"""``kd-seg bench fuse``: from a scan on disk to its fused cloud, against plain ways of doing the same.

kd_seg reads stored registrations and finds doubled points by a hash. The rivals search doubled points with SciPy's
k-d tree, and register at load time instead of beforehand. The last row, no rival, is a whole training sample of
multi-to-single distillation: fuse, augment, and voxelize for the student and for the teacher.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.caches import Work
from kd_seg.classes import load_classes
from kd_seg.instances import fusion as fusing
from kd_seg.instances.fusion import Fuser, prepare_fusion
from kd_seg.instances.registration import speed_limits
from kd_seg.instances.settings import CloudSettings, FusionSettings, RegistrationSettings
from kd_seg.instances.table import Chain
from kd_seg.networks import Encoding, encode
from kd_seg.objectives.interface import Sample
from kd_seg.objectives.multi_to_single.view import FusedView
from kd_seg.scans import Cloud, Scan, SemanticKitti
from kd_seg.training.augment import augment
from kd_seg.training.config import AugmentSettings
from kd_seg.voxels import CartesianGrid

SCANS = 4
"""Scans that one turn fuses; times are per scan."""


def rows(data: SemanticKitti, voxel_size: float, repeats: int) -> list[BenchRow]:
    """Milliseconds per scan of ours and its rivals; their clouds are compared with ours first.

    Args:
        data: labelled scans with poses; the busiest of the first sequence are fused.
        voxel_size: of the whole sample, metres.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = FusionSettings(cloud=CloudSettings(skip=0.0))
        registration = settings.registration
        classes = load_classes()
        prepare_fusion(Path(folder), data, classes, settings, Work("kd-seg bench fuse"))
        fuser = Fuser.open(Path(folder), data, classes, settings, "kd-seg bench fuse")
        keys = _busiest(fuser)
        expected = [_fuse(fuser, key) for key in keys]

        def check(found: list[Cloud]) -> None:
            for ours, theirs in zip(expected, found, strict=True):
                assert np.array_equal(ours.points, theirs.points), "the clouds differ"

        def check_size(found: list[Cloud]) -> None:
            assert len(found) == len(expected)

        speeds = speed_limits(classes.names, registration)
        rivals = [
            Rival("kd_seg fused cloud", lambda: [_fuse(fuser, key) for key in keys], check, ours=True),
            Rival("doubles by SciPy's k-d tree", lambda: _with_tree(fuser, keys), check),
            Rival("registering at load time", lambda: _registering(fuser, keys, speeds, registration), check_size),
            Rival("whole sample: two voxelizations too", _whole(fuser, keys, voxel_size), check_size),
        ]
        return [BenchRow(row.name, row.ours, row.ms / len(keys), row.ratio) for row in compare(rivals, repeats)]


def _busiest(fuser: Fuser) -> list[tuple[str, int]]:
    """The scans with most points in the library, all of them with earlier scans."""
    found = []
    for name, sequence in fuser.library.data.sequences.items():
        records = fuser.library.sequence(name).records
        for index in sequence.indices[4:] or sequence.indices:
            found.append((int(records["count"][records["scan"] == index].sum()), name, index))
    return [(name, index) for _, name, index in sorted(found, reverse=True)[:SCANS]]


def _fuse(fuser: Fuser, key: tuple[str, int]) -> Cloud:
    scan = fuser.library.data.scan(*key)
    return fuser.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(key[1]))


def _with_tree(fuser: Fuser, keys: list[tuple[str, int]]) -> list[Cloud]:
    """The same with the doubled and the crowded points found by SciPy and NumPy."""
    with patch.object(fusing, "keep_fused", _keep_by_tree):
        return [_fuse(fuser, key) for key in keys]


def _keep_by_tree(
    own: npt.NDArray[np.float32], fused: npt.NDArray[np.float32], clearance: float, cell: float, per_cell: int
) -> npt.NDArray[np.bool_]:
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(own.astype(np.float64)).query(fused.astype(np.float64), distance_upper_bound=clearance)
    keep: npt.NDArray[np.bool_] = ~np.isfinite(distance)
    rows = np.flatnonzero(keep)
    _, cells = np.unique(np.floor(fused[rows] / np.float32(cell)), axis=0, return_inverse=True)
    order = np.argsort(cells.reshape(-1), kind="stable")
    ordered = cells.reshape(-1)[order]
    first = np.r_[True, np.diff(ordered) != 0]
    rank = np.arange(len(ordered)) - np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    keep[rows[order[rank >= per_cell]]] = False
    return keep


def _registering(
    fuser: Fuser, keys: list[tuple[str, int]], speeds: tuple[float, ...], settings: RegistrationSettings
) -> list[Cloud]:
    """The same with every registration of the scan computed again instead of looked up."""
    clouds = []
    for name, index in keys:
        chain = Chain(fuser.library.data.sequences[name], fuser.library.sequence(name), speeds, settings)
        chain.pairs(index, fuser.settings.offsets())
        clouds.append(_fuse(fuser, (name, index)))
    return clouds


def _whole(fuser: Fuser, keys: list[tuple[str, int]], voxel_size: float) -> Callable[[], list[object]]:
    encoding = Encoding(CartesianGrid((voxel_size,) * 3), ("xyz", "remission", "offset"))
    view = FusedView(fuser, encoding)
    classes = load_classes()

    def sample(key: tuple[str, int]) -> object:
        rng = np.random.default_rng(key[1])
        scan: Scan = fuser.library.data.scan(*key)
        cloud = augment(view.extend(scan, Cloud.of_scan(scan), rng), AugmentSettings(), rng)
        labels = classes.to_train(cloud.words, scan.name)
        encoded = encode(cloud.points[: cloud.own], labels[: cloud.own], encoding)
        return view.build(Sample(scan, cloud, encoded, labels, rng))

    return lambda: [sample(key) for key in keys]
