"""What the objectives of image teachers share: the name of a run by what its teacher saw, and trained networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.checkpoint import load_checkpoint, resolve
from kd_seg.classes import ClassTable
from kd_seg.core.errors import CheckpointError
from kd_seg.images.teachers import Provenance, Tools, TrainedNetwork
from kd_seg.objectives.interface import Context
from kd_seg.scans import SemanticKitti


def regime(provenance: dict[str, Any], context: Context) -> str:
    """How a run with an image teacher is called: by whether labels of points reached it, and through what.

    "labels-through-images" where the teacher has seen projected 3D labels; else "annotation-free" where no objective of
    the run needs labels, else "joint".
    """
    if provenance.get("labels") == "projected_3d":
        return "labels-through-images"
    return "joint" if context.labels_used else "annotation-free"


def tools(data: SemanticKitti, classes: ClassTable, device: str, prompts: tuple[str, ...] = ()) -> Tools:
    """What teachers are lent: root, classes, prompts, a reader for checkpoints of networks trained here, a device."""
    return Tools(data.root, classes, prompts, load_image_network, device)


def shrink(rgb: npt.NDArray[np.uint8], share: float) -> npt.NDArray[np.uint8]:
    """The picture [H, W, 3] at a share of its size, each pixel the mean of the area it covers."""
    from PIL import Image

    if share == 1.0:
        return rgb
    size = (max(1, round(rgb.shape[1] * share)), max(1, round(rgb.shape[0] * share)))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))


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
