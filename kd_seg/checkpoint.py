"""The checkpoint: one ``.safetensors`` file with a network and all that is needed to use it (layout: docs/files.md)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

import kd_seg
from kd_seg.classes import ClassTable
from kd_seg.core.errors import CheckpointError, KdSegError
from kd_seg.core.files import write_bytes
from kd_seg.networks import Encoding, build_network
from kd_seg.scans import Points
from kd_seg.scans.lidar import INTENSITY_MAX, IntensityRange, Sensor
from kd_seg.voxels import feature_width, grid_from_json

FORMAT = 1
READABLE = (1, 1)
METADATA_KEY = "kd_seg"


@dataclass(frozen=True)
class Spec:
    """What stands beside the weights.

    Attributes:
        network: registered name, and its size.
        classes, encoding, sensor: see there.
        training: config digest, data, objectives with their teachers, metrics, kd_seg version.
        licence: of the weights.
        input_intensity: range of the intensities that the network was trained on; None = the sensor's. Training gives
            it "unit"; kd_seg 0.1.0 trained on intensities as the files had them, and so were imported networks.
    """

    network: str
    size: str
    classes: ClassTable
    encoding: Encoding
    sensor: Sensor = field(default_factory=Sensor)
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = "unspecified"
    input_intensity: IntensityRange | None = None

    @property
    def largest_intensity(self) -> float:
        """What the network takes for the brightest return, which is 1 everywhere else."""
        return INTENSITY_MAX[self.input_intensity or self.sensor.intensity_range]

    def as_trained(self, points: Points) -> Points:
        """Points [N, 4] with intensities 0-1 as the network takes them: the same, unless it was trained on others."""
        largest = self.largest_intensity
        return points if largest == 1.0 else points * np.array([1.0, 1.0, 1.0, largest], np.float32)

    def build(self, features: int) -> nn.Module:
        """A network as described, with fresh weights."""
        return build_network(self.network, self.size, features, len(self.classes))

    def to_json(self) -> dict[str, Any]:
        """Plain data for the file's metadata."""
        known = {} if self.input_intensity is None else {"input_intensity": self.input_intensity}
        return {
            **known,
            "format": FORMAT,
            "kd_seg": kd_seg.__version__,
            "network": {"name": self.network, "size": self.size},
            "grid": self.encoding.grid.to_json(),
            "features": list(self.encoding.features),
            "classes": self.classes.to_json(),
            "sensor": asdict(self.sensor),
            "training": self.training,
            "licence": self.licence,
        }


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the network (on the CPU, in eval mode) and its spec."""

    path: Path
    network: nn.Module
    spec: Spec


def save_checkpoint(path: str | Path, network: nn.Module, spec: Spec) -> None:
    """Write weights and spec whole."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(Path(path), save(state, {METADATA_KEY: json.dumps(spec.to_json(), sort_keys=True)}))


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    """What a file is that is no .safetensors file."""
    reason = f"{path} is not a readable .safetensors file ({error})"
    with contextlib.suppress(OSError), open(path, "rb") as file:
        head = file.read(64)
        if head.startswith(b"version https://git-lfs"):
            return CheckpointError(f"{path} is a pointer of Git LFS, not the weights; run: git lfs pull")
        if head.startswith((b"PK", b"\x80\x02", b"\x80\x04")):
            return CheckpointError(f"{reason}; it looks like PyTorch's: published networks are read by kd-seg import.")
    return CheckpointError(f"{reason}; it may be cut off.")


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"Checkpoint {path} does not exist; give a .safetensors file, a run folder, or the name of a shipped "
            f"network ({', '.join(SHIPPED)})."
        )


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The ``kd_seg`` metadata of a checkpoint, its format checked, no weights read; CheckpointError tells what is
    wrong.
    """
    path = Path(path)
    _check_there(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    if text is None:
        raise CheckpointError(f"{path} is a .safetensors file without a {METADATA_KEY} entry; kd-seg train writes one.")
    try:
        metadata: dict[str, Any] = json.loads(text)
        version = metadata["format"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path} has broken {METADATA_KEY} metadata; write the checkpoint again.") from None
    if not isinstance(version, int) or not READABLE[0] <= version <= READABLE[1]:
        raise CheckpointError(
            f"{path}: checkpoint written by format {version}, this build reads {READABLE[0]}..{READABLE[1]}; "
            "update kd_seg."
        )
    return metadata


def read_spec(path: str | Path) -> Spec:
    """The spec of a checkpoint; CheckpointError names the entry that is missing or wrong."""
    metadata = read_metadata(path)
    try:
        sensor = Sensor(**metadata["sensor"])
        if sensor.intensity_range not in get_args(IntensityRange):
            raise ValueError(f"intensity_range {sensor.intensity_range!r}")
        if metadata.get("input_intensity") not in (None, *get_args(IntensityRange)):
            raise ValueError(f"input_intensity {metadata['input_intensity']!r}")
        classes = ClassTable.from_json(metadata["classes"])
        if len(classes.colours) != len(classes.names):
            raise CheckpointError(
                f"{path}: checkpoint has {len(classes.names)} classes, palette has {len(classes.colours)} colours."
            )
        if not 1 <= len(classes.names) <= 254:
            raise CheckpointError(f"{path}: checkpoint has {len(classes.names)} classes, 1 to 254 are possible.")
        return Spec(
            network=metadata["network"]["name"],
            size=metadata["network"]["size"],
            classes=classes,
            encoding=Encoding(grid_from_json(metadata["grid"]), tuple(metadata["features"])),
            sensor=sensor,
            training=metadata["training"],
            licence=metadata["licence"],
            input_intensity=metadata.get("input_intensity"),
        )
    except KdSegError:
        raise
    except (KeyError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise CheckpointError(
            f"{path}: metadata entry {error} is missing or wrong; write the checkpoint again."
        ) from None


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read spec and weights, and check every tensor's name and shape; never runs code from the file.

    Returns the network on the CPU, in eval mode. Raises CheckpointError naming the first tensor that is missing,
    unknown, of another shape or not finite.
    """
    path = Path(path)
    spec = read_spec(path)
    network = spec.build(feature_width(spec.encoding.features))
    state = read_tensors(path)
    expected = network.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing:
        raise CheckpointError(
            f"{path} lacks tensor {missing[0]} ({len(missing)} in all); it is not a whole {spec.network}."
        )
    if extra:
        raise CheckpointError(
            f"{path} has an unknown tensor {extra[0]} ({len(extra)} in all); it is no {spec.network}."
        )
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            raise CheckpointError(
                f"{path}: tensor {name} has shape {list(state[name].shape)}, {spec.network} {spec.size} needs "
                f"{list(tensor.shape)}."
            )
    check_finite(state, path)
    network.load_state_dict(state)
    network.eval()
    return Checkpoint(path, network, spec)


def check_finite(state: dict[str, torch.Tensor], path: str | Path) -> None:
    """CheckpointError where a weight is NaN or infinite: every point would get the same class."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{path}: tensor {name} holds NaN or infinity, as after a training that diverged; take an earlier one."
            )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a .safetensors file by name, copied to the CPU; CheckpointError where it is none or cut off."""
    _check_there(path)
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: a view of the file would end the process where somebody cuts the file off later.
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def check_input(path: str | Path, spec: Spec) -> None:
    """CheckpointError where a network does not take intensities 0-1, as it would be given in training."""
    if spec.largest_intensity != 1.0:
        raise CheckpointError(
            f"{path} takes intensities of 0 to {spec.largest_intensity:.0f}, as its files had them; training gives 0 "
            "to 1, so train it again with kd-seg train CONFIG --overwrite, or let it teach as a point_teacher."
        )


def initialise(network: nn.Module, path: str | Path) -> list[str]:
    """Load what matches in name and shape from a checkpoint; return the names of the rest (``student.init``).

    Raises CheckpointError where nothing matches, or a tensor of the file is not finite.
    """
    state = read_tensors(resolve(path))
    own = network.state_dict()
    check_finite(state, path)
    fitting = {name: t for name, t in state.items() if name in own and own[name].shape == t.shape}
    if not fitting:
        raise CheckpointError(f"{path} has no tensor that fits the student; check student.network and student.size.")
    network.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


ASSETS = Path(__file__).parent / "assets"
SHIPPED = {
    "taught": ASSETS / "taught.safetensors",
    "general": ASSETS / "general.safetensors",
    "hdl64e": ASSETS / "nano.safetensors",
}
"""Checkpoints that come with the package, by name: for any LiDAR, the same before a teacher, and for HDL-64E alone."""


def resolve(path: str | Path) -> Path:
    """A checkpoint's path: itself, a run folder's ``checkpoints/last.safetensors``, or a shipped one's by name.

    Raises CheckpointError for a folder of kd-seg adapt, which holds a run per round.
    """
    path = Path(path)
    if str(path) in SHIPPED and not path.exists():
        return SHIPPED[str(path)]
    if not path.is_dir():
        return path
    rounds = sorted(path.glob("round_*/run"))
    if rounds and not (path / "checkpoints").is_dir():
        raise CheckpointError(f"{path} is a folder of kd-seg adapt; give the run of a round, such as {rounds[-1]}.")
    return path / "checkpoints" / "last.safetensors"


def shipped() -> Path:
    """The network that is used where none is named."""
    return SHIPPED["taught"]


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
