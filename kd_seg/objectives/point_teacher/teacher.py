"""A frozen network from a checkpoint, asked for class probabilities of points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.checkpoint import Spec, load_checkpoint, resolve, sha256
from kd_seg.classes import ClassTable
from kd_seg.core.errors import ConfigError
from kd_seg.networks import Batch, Encoded, collate, encode
from kd_seg.scans import Points


class FrozenTeacher:
    """The network of a checkpoint in eval mode, on a device, without gradients.

    Raises:
        CheckpointError: the file is missing or broken. ConfigError: it knows other classes than the student.
    """

    def __init__(self, checkpoint: str, classes: ClassTable, device: torch.device) -> None:
        loaded = load_checkpoint(resolve(Path(checkpoint)))
        if loaded.spec.classes.names != classes.names:
            raise ConfigError(
                f"The teacher {loaded.path} has the classes {loaded.spec.classes.name}, the student {classes.name}; "
                "set data.classes to the teacher's, or take another teacher."
            )
        self.spec: Spec = loaded.spec
        self.device = device
        self.network = loaded.network.requires_grad_(False).to(device)

    def encode(self, points: Points) -> Encoded:
        """Points [N, 4] with intensities 0-1 as the teacher's input."""
        return encode(self.spec.as_trained(points), None, self.spec.encoding)

    def collate(self, clouds: list[Encoded]) -> Batch:
        """Several of them as one batch."""
        return collate(clouds, self.spec.encoding.grid)

    def probabilities(self, batch: Batch) -> Tensor:
        """Class probabilities [N, C] float32 of the batch's points; zeros outside the teacher's grid."""
        found = torch.zeros(len(batch.inverse), len(self.spec.classes), device=batch.inverse.device)
        if len(batch.coordinates) == 0:
            return found
        with torch.no_grad():
            output = self.network.eval()(batch)
        logits, rows = output.rows(batch.inverse)
        inside = rows >= 0
        found[inside] = logits.float().softmax(dim=1)[rows[inside]]
        return found

    def scan(self, points: Points) -> npt.NDArray[np.float32]:
        """Class probabilities [N, C] of a scan's points [N, 4]; zeros for those that are not finite or outside."""
        batch = self.collate([self.encode(points)]).to(self.device)
        return self.probabilities(batch).cpu().numpy()

    def about(self) -> dict[str, Any]:
        """What a student's checkpoint says of its teacher."""
        return {
            "network": self.spec.network,
            "size": self.spec.size,
            "licence": self.spec.licence,
            **self.spec.training,
        }


def identify(checkpoint: str) -> dict[str, Any]:
    """Digest of the teacher's file; empty where the file is not here."""
    path = resolve(Path(checkpoint))
    return {"sha256": sha256(path)} if path.is_file() else {}
