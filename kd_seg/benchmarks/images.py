"""``kd-seg bench images``: one training step without and with each way to learn from pictures, and what views cost.

Steps start from batches that are ready. The rows "view of .." are what a loader worker does more per scan; the sizes in
their names are those of the cache per scan.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_seg.benchmarks.distil import _finite, _Steps
from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.caches import Work
from kd_seg.checkpoint import Spec, save_checkpoint
from kd_seg.classes import load_classes
from kd_seg.core.config import validate
from kd_seg.objectives.image_labels.settings import ImageLabelsSettings
from kd_seg.objectives.interface import View
from kd_seg.training.config import TrainingConfig
from kd_seg.training.prepare import prepare
from kd_seg.training.setup import Parts


def rows(root: Path, voxel_size: float, repeats: int, size: str = "nano", batch: int = 2) -> list[BenchRow]:
    """Milliseconds per step (``ratio`` = times the baseline's), then milliseconds per scan of making each view.

    Args:
        root: data root of simulated scans with pictures and class images.
        voxel_size: metres. size: of the unet. batch: scans per step.
    """
    with tempfile.TemporaryDirectory() as folder:
        configs = _configs(root, Path(folder), voxel_size, size, batch)
        steps, views = [], []
        for name, config in configs.items():
            prepare(config, Work("kd-seg bench images"))
            steps.append(Rival(name, _Steps(config), _finite, ours=name == "baseline"))
            views += _views(name, config)
        timed = compare(steps, repeats)
        baseline = timed[0].ms
        return timed + [BenchRow(name, False, ms, ms / baseline) for name, ms in views]


def _views(name: str, config: TrainingConfig) -> list[tuple[str, float]]:
    """What the views of a configuration take per scan, best of ten."""
    import time

    parts = Parts.build(config)
    key = parts.pipeline.keys[0]
    sample, _ = parts.pipeline.sample(key, np.random.default_rng(0))
    found = []
    for objective in parts.objectives:
        for view in objective.views():
            store: Any = getattr(objective, "store")  # noqa: B009 - only image objectives are asked
            size = store.bytes() / len(parts.keys) / 1024
            found.append((f"view of {name}, {size:.0f} KiB a scan", _best(view, sample, time.perf_counter)))
    return found


def _best(view: View, sample: Any, clock: Any) -> float:
    best = float("inf")
    for _ in range(10):
        start = clock()
        view.build(replace(sample, rng=np.random.default_rng(1)))
        best = min(best, clock() - start)
    return 1e3 * best


def _configs(root: Path, folder: Path, voxel_size: float, size: str, batch: int) -> dict[str, TrainingConfig]:
    content: dict[str, Any] = {
        "data": {"root": str(root), "cache": str(folder / "cache")},
        "grid": {"voxel_size": voxel_size},
        "student": {"size": size},
        "run": {"steps": 1000, "batch": batch, "device": "cpu"},
    }
    baseline = validate(TrainingConfig, content, "kd-seg bench images")
    own = {"kind": "trained", "checkpoints": [str(_write_teacher(baseline, folder / "teacher.safetensors"))]}
    units = {"kind": "image_units", "teacher": {"kind": "class_images"}, "class_map": "same"}
    more: dict[str, list[dict[str, Any]]] = {
        "units, forward": [units],
        "units, forward with an EMA judge": [{**units, "backward": {}}],
        "regions, slidr_corrected": [{"kind": "image_regions", "preset": "slidr_corrected", "teacher": own}],
        "regions, scalr": [{"kind": "image_regions", "preset": "scalr", "teacher": own}],
    }
    made = {"baseline": baseline}
    for name, entries in more.items():
        objectives = [{"kind": "supervised"}, *entries]
        made[name] = validate(TrainingConfig, {**content, "objectives": objectives}, "kd-seg bench images")
    return made


def _write_teacher(config: TrainingConfig, path: Path) -> Path:
    """An untrained image network; its features are as large as a trained one's."""
    from kd_seg.networks import build_network

    torch.manual_seed(1)
    classes = load_classes(config.data.classes)
    learned = {**ImageLabelsSettings().model_dump(mode="json"), "labels": "class_images"}
    learned["provenance"] = {"labels": "2d", "data": [], "sequences": []}
    spec = Spec("image_unet", "nano", classes, config.encoding(), training={"objectives": [learned]})
    save_checkpoint(path, build_network("image_unet", "nano", 0, len(classes)), spec)
    return path
