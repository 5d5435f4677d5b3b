"""``kd-seg bench predict``: one scan through the Segmenter and through the plain path, points in, classes out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kd_seg.benchmarks.plain import by, plain_encode, plain_spconv
from kd_seg.benchmarks.timing import BenchRow, Rival, compare, wait_for
from kd_seg.networks import collate, encode
from kd_seg.networks.work import multiply_adds
from kd_seg.scans import Points
from kd_seg.serving.segmenter import Segmenter
from kd_seg.voxels import CartesianGrid

Array = npt.NDArray[Any]


def rows(points: Points, repeats: int, checkpoint: Path | None = None, device: str = "cpu") -> list[BenchRow]:
    """Times of a checkpoint (default: the shipped student) on a device, in float32, against the same network plainly.

    The classes of all points are compared first: at most 1 in 1,000 may differ, as sums are taken in another order.
    """
    points = np.ascontiguousarray(points[np.isfinite(points).all(axis=1), :4], dtype=np.float32)
    student = Segmenter(checkpoint, device, precision="fp32")
    expected = student.segment(points).class_id

    def check(found: Array) -> None:
        differing = float(np.mean(found != expected))
        assert differing <= 1e-3, f"{100 * differing:.2f} % of the points have another class"

    encoding = student.spec.encoding
    theirs = plain_spconv(student.network).eval()

    def plain() -> Array:
        encoded = plain_encode(student.spec.as_trained(points), None, encoding)
        with torch.no_grad():
            probabilities = theirs(collate([encoded], encoding.grid).to(student.device)).logits.softmax(dim=1)
        class_id: Array = probabilities.argmax(dim=1).cpu().numpy()[encoded.voxels.inverse].astype(np.uint8)
        class_id[encoded.voxels.inverse < 0] = 255
        return class_id

    def ours() -> Array:
        return student.segment(points).class_id

    rivals = [Rival("kd_seg Segmenter", ours, check, ours=True)]
    if student.device.type != "cuda":  # there it is the Segmenter itself
        rivals.append(Rival("kd_seg 0.1.0: spconv's native algorithm on our maps", by("spconv", ours), check))
    if isinstance(encoding.grid, CartesianGrid) and not encoding.grid.clamp:
        rivals.append(Rival("spconv as it is, np.unique", by("spconv", plain), check))
    else:
        warnings.warn("spconv with np.unique is left out: it has Cartesian grids without clamp alone.", stacklevel=2)
    rivals.append(Rival("torch gather-scatter on our maps", by("torch", ours), check))
    timed = compare(rivals, repeats, wait_for(device))
    work = multiply_adds(student.network.cpu(), collate([encode(points, None, encoding)], encoding.grid))
    return [replace(row, gmacs=1e-9 * work) for row in timed]
