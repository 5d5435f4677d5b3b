"""What the objectives of image teachers share: the name of a run by what its teacher saw, and trained networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_seg.checkpoint import load_checkpoint, resolve
from kd_seg.classes import ClassTable
from kd_seg.core.errors import CheckpointError
from kd_seg.images.teachers import Provenance, Tools, TrainedNetwork
from kd_seg.networks import Batch, Level
from kd_seg.objectives.image_labels.objective import shrink
from kd_seg.objectives.interface import OBJECTIVES, Context
from kd_seg.scans import SemanticKitti

MEND = "kd-seg prepare CONFIG"
"""The command that builds teacher caches, for messages."""


def regime(provenance: dict[str, Any], context: Context) -> str:
    """How a run with an image teacher is called (methods 3.3, Names).

    "labels-through-images" where the teacher has seen projected 3D labels; else "annotation-free" where no objective of
    the run needs labels, else "joint".
    """
    if provenance.get("labels") == "projected_3d":
        return "labels-through-images"
    entries = context.config.objectives if context.config is not None else []
    joint = any(OBJECTIVES.get(entry.kind).needs_labels for entry in entries)
    return "joint" if joint else "annotation-free"


def tools(data: SemanticKitti, classes: ClassTable, device: str, prompts: tuple[str, ...] = ()) -> Tools:
    """What teachers are lent: root, classes, prompts, a reader for checkpoints of networks trained here, a device."""
    return Tools(data.root, classes, prompts, load_image_network, device)


def load_image_network(path: Path) -> TrainedNetwork:
    """A trained image network in eval mode; CheckpointError if the file is not one."""
    loaded = load_checkpoint(resolve(path))
    entry = next((o for o in loaded.spec.training.get("objectives", []) if o.get("kind") == "image_labels"), None)
    if entry is None:
        raise CheckpointError(f"{path} was not trained on pictures (objective image_labels); name an image network.")
    provenance = Provenance(
        entry["provenance"]["labels"], tuple(entry["provenance"]["data"]), tuple(entry["provenance"]["sequences"])
    )
    return TrainedNetwork(loaded.network, loaded.spec.classes.names, provenance, partial(shrink, share=entry["resize"]))


def level_rows(batch: Batch, level: Level) -> Tensor:
    """Row of each stride-1 voxel [V] among the rows of a level (every voxel has a parent at every stride)."""
    if level.stride == (1, 1, 1) and len(level.features) == len(batch.coordinates):
        return torch.arange(len(batch.coordinates), device=batch.coordinates.device)
    sides = [-(-side // s) + 1 for side, s in zip(batch.spatial_shape, level.stride, strict=True)]
    stride = torch.tensor((1, *level.stride), device=batch.coordinates.device)

    def code(coordinates: Tensor) -> Tensor:
        b, x, y, z = coordinates.long().unbind(dim=1)
        return ((b * sides[0] + x) * sides[1] + y) * sides[2] + z

    ordered, order = torch.sort(code(level.coordinates))
    wanted = code(torch.div(batch.coordinates, stride, rounding_mode="floor"))
    place = torch.searchsorted(ordered, wanted).clamp_max(max(len(ordered) - 1, 0))
    if len(ordered) == 0 or not bool((ordered[place] == wanted).all()):
        raise ValueError("a level lacks the parent of a voxel; its coordinates are not those of this batch")
    return order[place]
