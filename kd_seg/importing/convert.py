"""From a published file to a checkpoint of this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kd_seg.checkpoint import Spec, save_checkpoint, sha256
from kd_seg.classes import load_classes
from kd_seg.core.errors import CheckpointError, UsageError
from kd_seg.importing.families import FAMILIES
from kd_seg.importing.files import read_state
from kd_seg.importing.table import Family, State, Variant
from kd_seg.networks import build_network
from kd_seg.scans import Sensor
from kd_seg.voxels import feature_width

WEIGHTS = "non-commercial: inherits from the data, {data} ({terms}); licence of the code: {code}"
TERMS = {"SemanticKITTI": "CC BY-NC-SA 4.0, KITTI 3.0", "nuScenes": "CC BY-NC-SA 4.0"}


@dataclass(frozen=True)
class Imported:
    """A converted network.

    Attributes:
        network: in eval mode. spec: what its checkpoint says beside the weights.
        family: whose file it was. variant: what was found in it. tensors: how many the file had.
        ignored: how many of them answer nothing and were left out.
    """

    network: nn.Module
    spec: Spec
    family: Family
    variant: Variant
    tensors: int
    ignored: int

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        save_checkpoint(path, self.network, self.spec)


def import_file(path: Path, family: str | None = None) -> Imported:
    """Convert a published file; the family is guessed where none is given.

    Raises:
        UsageError: no family of this name. CheckpointError: a file that cannot be read safely, or that is not exactly a
        network of the family: a tensor too many, too few, or of another shape.
    """
    if family is not None and family not in FAMILIES:
        raise UsageError(f"There is no family {family!r}; --as takes {', '.join(FAMILIES)}.")
    state = read_state(path)
    if family is not None:
        return convert(state, FAMILIES[family], path)
    return convert(state, guess(state, path), path)


def guess(state: State, path: Path) -> Family:
    """The family in which every tensor has a place; CheckpointError where there is none.

    Files of SPVNAS and PolarMix look the same; the first family of FAMILIES is taken.
    """
    reasons = []
    for family in FAMILIES.values():
        try:
            family.read(state)
        except CheckpointError as error:
            if "has no place" not in str(error):
                reasons.append(str(error))
            continue
        return family
    reason = reasons[0] if reasons else f"its tensors begin with {', '.join(list(state)[:3])}"
    raise CheckpointError(f"{path} is of no family that is known here: {reason} Families: {', '.join(FAMILIES)}.")


def convert(state: State, family: Family, path: Path) -> Imported:
    """The network of a family from its tensors; CheckpointError as ``import_file``."""
    try:
        made, variant = family.read(state)
        classes = load_classes(variant.classes)
        features = feature_width(variant.encoding.features)
        network = build_network(variant.network, variant.size, features, len(classes))
        _fill(network, made, family)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    used = sum(family.uses(name) for name in state)
    spec = Spec(
        network=variant.network,
        size=variant.size,
        classes=classes,
        encoding=variant.encoding,
        sensor=Sensor(variant.intensity, variant.height_m, variant.range_m, *variant.fov_deg),  # type: ignore[arg-type]
        training={"imported": _record(family, variant, path)},
        licence=WEIGHTS.format(data=variant.data, terms=TERMS[variant.data], code=family.code),
    )
    return Imported(network.eval(), spec, family, variant, len(state), len(state) - used)


def _record(family: Family, variant: Variant, path: Path) -> dict[str, object]:
    """What a checkpoint keeps of where it comes from."""
    return {
        "family": family.name,
        "project": family.title,
        "source": family.source,
        "file": path.name,
        "sha256": sha256(path),
        "data": variant.data,
        "trained_on": list(variant.trained_on),
        "published_miou": variant.published,
    }


def _fill(network: nn.Module, state: State, family: Family) -> None:
    """Load a finished state, every tensor of it and of the network; a norm's count of batches may be missing."""
    expected = network.state_dict()
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, torch.zeros_like(tensor))
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing:
        raise CheckpointError(
            f"nothing in the file belongs to {missing[0]} ({len(missing)} in all); it is not a whole {family.title}."
        )
    if extra:
        raise CheckpointError(f"{extra[0]} ({len(extra)} in all) is more than {family.title} has.")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"the tensor for {name} has shape {list(state[name].shape)}, and {list(tensor.shape)} is needed; the "
                f"file is no {family.title} or in another layout."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(state[name]).all()):
            raise CheckpointError(f"the tensor for {name} holds values that are not finite; the file is damaged.")
    network.load_state_dict({name: state[name].to(tensor.dtype) for name, tensor in expected.items()})
