"""Weights, points and expected logits for the families of published networks.

``fixtures/published.json`` holds, per family, names and shapes of a small network's tensors and the logits of some
points, both from the project's own code (docs/published.md names the commits); the weights and points are made here.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

FIXTURE = Path(__file__).parent.parent / "fixtures" / "published.json"

State = dict[str, torch.Tensor]


def fixtures() -> dict[str, Any]:
    """By name of the case: family, shapes, rows, logits."""
    content: dict[str, Any] = json.loads(FIXTURE.read_text(encoding="utf-8"))
    return content


def made_state(shapes: dict[str, list[int]]) -> State:
    """A state of these names and shapes; values depend on the name alone. Cells that Cylinder3D never reads are NaN."""
    return {name: torch.from_numpy(_values(name, tuple(shape))) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.array(7, np.int64)
    if last == "running_var" or (last == "weight" and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 1:
        return (0.2 * rng.standard_normal(shape)).astype(np.float32)
    fan = float(np.prod(shape)) / max(shape[0], shape[-1])
    values = (1.5 / np.sqrt(fan) * rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("conv3.weight") and shape[:3] == (3, 3, 3):
        values.reshape(27, *shape[3:])[9:] = np.nan
    return values


def made_points(count: int = 3000) -> npt.NDArray[np.float32]:
    """A cloud [count, 4]: ground, walls and clutter up to 70 m away, some points close together."""
    rng = np.random.RandomState(5)
    distance = 2.0 + 68.0 * rng.random_sample(count) ** 2
    azimuth = rng.uniform(-np.pi, np.pi, count)
    height = np.where(
        rng.random_sample(count) < 0.5, -1.73 + 0.03 * rng.standard_normal(count), rng.uniform(-2, 2.5, count)
    )
    points = np.stack(
        [distance * np.cos(azimuth), distance * np.sin(azimuth), height, rng.random_sample(count)], axis=1
    )
    half = count // 2
    points[half:, :3] = points[: count - half, :3] + rng.uniform(-0.12, 0.12, (count - half, 3))
    return points.astype(np.float32)
