"""Fused clouds to score a multi-scan teacher on: its instance library is made where it is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kd_seg.caches import Work
from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.instances.fusion import Fuser, prepare_fusion
from kd_seg.instances.settings import FusionSettings
from kd_seg.scans import Cloud, Scan, SemanticKitti
from kd_seg.training.setup import cache_folder


def unskipped(settings: FusionSettings) -> FusionSettings:
    """The settings of a run with nothing left unfused at random, as a teacher is scored."""
    return settings.model_copy(update={"cloud": settings.cloud.model_copy(update={"skip": 0.0})})


def make_fuse(
    data: SemanticKitti, classes: ClassTable, settings: FusionSettings, cache: Path | None, work: Work
) -> Callable[[Scan], Cloud]:
    """A function from a scan to its fused cloud, own rows first, the same for the same scan at every call.

    What the scans need of library and registrations is built first.

    Args:
        data: the scans to be evaluated; they need labels and poses.
        cache: folder of libraries; None = where ``kd-seg prepare`` has it for this data root.
        work: how it is built.

    Raises DataError where labels or poses are missing, or the cache cannot be written.
    """
    cache = cache_folder(str(data.root), str(cache) if cache is not None else None)
    try:
        prepare_fusion(cache, data, classes, settings, work)
    except OSError as error:
        raise DataError(
            f"{cache} cannot be written ({error.strerror}); fused clouds need an instance library there."
        ) from None
    fuser = Fuser.open(cache, data, classes, settings, work.fix_command)

    def fuse(scan: Scan) -> Cloud:
        return fuser.fuse(scan, Cloud.of_scan(scan), np.random.default_rng(scan.index))

    return fuse
