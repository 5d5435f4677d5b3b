"""``kd-seg bench predict``: one scan through the Segmenter and through the plain path, points in, classes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from kd_seg.benchmarks.plain import gather_scatter, plain_encode, plain_spconv
from kd_seg.benchmarks.timing import BenchRow, Rival, compare, wait_for
from kd_seg.networks import collate, encode
from kd_seg.networks.work import multiply_adds
from kd_seg.scans import Points
from kd_seg.serving.segmenter import Segmenter


def rows(points: Points, repeats: int, checkpoint: Path | None = None, device: str = "cpu") -> list[BenchRow]:
    """Times of a checkpoint (default: the shipped student) on a device, in float32, against the same network plainly.

    The classes of all points are compared first: at most 1 in 1,000 may differ, as sums are taken in another order.
    """
    points = np.ascontiguousarray(points[np.isfinite(points).all(axis=1), :4], dtype=np.float32)
    student = Segmenter(checkpoint, device, precision="fp32")
    expected = student.segment(points).class_id

    def check(found: np.ndarray) -> None:
        differing = float(np.mean(found != expected))
        assert differing <= 1e-3, f"{100 * differing:.2f} % of the points have another class"

    encoding = student.spec.encoding
    networks = [plain_spconv(student.network).eval(), gather_scatter(student.network).eval()]

    def plain(network: torch.nn.Module) -> np.ndarray:
        encoded = plain_encode(points, None, encoding)
        with torch.no_grad():
            probabilities = network(collate([encoded], encoding.grid).to(student.device)).logits.softmax(dim=1)
        class_id: np.ndarray = probabilities.argmax(dim=1).cpu().numpy()[encoded.voxels.inverse].astype(np.uint8)
        class_id[encoded.voxels.inverse < 0] = 255
        return class_id

    timed = compare(
        [
            Rival("kd_seg Segmenter", lambda: student.segment(points).class_id, check, ours=True),
            Rival("np.unique + spconv's kernel maps", lambda: plain(networks[0]), check),
            Rival("np.unique + torch gather-scatter", lambda: plain(networks[1]), check),
        ],
        repeats,
        wait_for(device),
    )
    work = multiply_adds(student.network.cpu(), collate([encode(points, None, encoding)], encoding.grid))
    return [replace(row, gmacs=1e-9 * work) for row in timed]
