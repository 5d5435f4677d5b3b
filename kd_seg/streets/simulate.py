"""Simulate whole data sets: sequences in parallel processes, the same bytes for any number of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.config import digest
from kd_seg.core.errors import UsageError
from kd_seg.core.files import remove_temporaries, write_json
from kd_seg.core.geometry import invert
from kd_seg.core.processes import run_tasks
from kd_seg.core.progress import Advance
from kd_seg.scans.truth import ObjectTruth, truth_folder
from kd_seg.streets.layout.traffic import PERIOD
from kd_seg.streets.layout.world import World
from kd_seg.streets.objects.catalogue import shape
from kd_seg.streets.objects.mesh import Floats
from kd_seg.streets.raycast import Caster, choose_caster, scene_maker
from kd_seg.streets.scenario import Scenario, compose
from kd_seg.streets.sensors.camera import picture, visible
from kd_seg.streets.sensors.lidar import sweep
from kd_seg.streets.sensors.ranges import LidarRanges, load_sensor
from kd_seg.streets.sensors.rig import mounted
from kd_seg.streets.sensors.settings import Lidar
from kd_seg.streets.writer import write_picture, write_scan, write_sensor, write_sequence, write_truth

GENERATION = 8
"""Raised whenever equal settings no longer give equal bytes, so that no folder is completed with other streets."""
SENSOR = "hdl64e"
"""The sensor of a data set unless another is asked for: SemanticKITTI's."""
CHUNK = 40
"""Scans that share one world; fixed, so that the bytes do not depend on the number of workers."""


@dataclass(frozen=True)
class Order:
    """What decides every byte of a simulated data set.

    Attributes:
        sequences: how many; they are called 00, 01 and so on, so that 11 fit the official splits (08 validates).
        scans: scans per sequence.
        seed: any number from 0.
        images: also the pictures of the left colour camera.
        rare: factor on the number of hard-class objects; 1 = as in SemanticKITTI.
        distort: points distorted by the motion during the scan, instead of compensated as KITTI's are.
        sensor: the LiDAR, or ranges from which every sequence draws its own; None = SENSOR.
        caster: what finds the hits of rays; see raycast.
        camera_shift: metres (forward, left, up) from KITTI's place of the cameras beside the LiDAR to theirs.
    """

    sequences: int = 11
    scans: int = 40
    seed: int = 0
    images: bool = False
    rare: float = 1.0
    distort: bool = False
    sensor: Lidar | LidarRanges | None = None
    caster: Caster = "open3d"
    camera_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def header(self) -> dict[str, Any]:
        """What ``simulation.json`` holds; the usual sensor, ray caster and camera have no entry."""
        header: dict[str, Any] = {"generation": GENERATION}
        usual = ("sensor", "caster", "camera_shift")
        header |= {f.name: getattr(self, f.name) for f in fields(self) if f.name not in usual}
        if self.sensor is not None:
            header["sensor"] = f"{self.sensor.name} ({digest(self.sensor)})"
        if self.caster != "open3d":
            header["caster"] = self.caster
        if any(self.camera_shift):
            header["camera_shift"] = list(self.camera_shift)
        return header


def simulate(
    out: str | Path,
    sequences: int = 11,
    scans: int = 40,
    seed: int = 0,
    images: bool = False,
    rare: float = 1.0,
    *,
    distort: bool = False,
    sensor: str = SENSOR,
    caster: str = "auto",
    camera_shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    workers: int | None = None,
    overwrite: bool = False,
    advance: Advance | None = None,
) -> Path:
    """Write a simulated data set in SemanticKITTI's layout under ``out``, the truth beside it in ``truth/``.

    A folder begun with the same settings is completed. With several ``workers`` (default: one per core) processes are
    spawned, so a script that calls this needs the usual ``if __name__ == "__main__"``.

    Args:
        out: folder; made if missing. overwrite: remove what an earlier run left there.
        sequences, scans, seed, images, rare, distort: see Order.
        sensor: a name in ``configs/sensors``, "random" among them, or a file like those.
        caster: "open3d", "embreex", or "auto" for the first that is there.
        camera_shift: see Order.
        workers: processes; 1 = none but this one.
        advance: called with the number of scans done since the last call.

    Raises:
        UsageError: settings out of range, or ``out`` holds something else.
        ConfigError: the sensor is unknown or its file is wrong.
        MissingDependencyError: no ray caster is there.
    """
    lidar = None if sensor == SENSOR else load_sensor(sensor)
    order = Order(sequences, scans, seed, images, float(rare), distort, lidar, choose_caster(caster), camera_shift)
    _check(order)
    _claim(Path(out), order, overwrite)
    _write(Path(out), order, workers or os.cpu_count() or 1, advance or (lambda count: None))
    return Path(out)


def _write(root: Path, order: Order, workers: int, advance: Advance) -> None:
    chunks = [(q, first) for q in range(order.sequences) for first in range(0, order.scans, CHUNK)]
    try:
        run_tasks(partial(_chunk_runner, root, order), chunks, workers, advance)
    finally:
        remove_temporaries(root, below=True)


def _chunk_runner(root: Path, order: Order) -> Callable[[int, int, Advance], None]:
    return partial(run_chunk, root, order)


def run_chunk(folder: Path, order: Order, sequence: int, first: int, tell: Advance) -> None:
    """Scans ``first`` to ``first + CHUNK`` of a sequence; scans that are there already are passed over."""
    name = f"{sequence:02d}"
    indices = range(first, min(first + CHUNK, order.scans))
    missing = [k for k in indices if not _done(folder, name, k, order.images)]
    tell(len(indices) - len(missing))
    if not missing:
        return
    scenario = _scenario(order, sequence)
    poses = scenario.ego.poses
    if first == 0:
        write_sequence(folder, name, poses, np.arange(order.scans) * PERIOD, mounted(order.camera_shift))
        if order.sensor is not None:
            write_sensor(folder, name, scenario.sensor)
    near = poses[indices.start : indices.stop, :2, 3]
    world = World(scenario.plan, scenario.items, scenario.tracks, near, scene_maker(order.caster))
    for k in missing:
        _one(folder, name, order, scenario, world, sequence, k)
        tell(1)


@lru_cache(maxsize=1)
def _scenario(order: Order, sequence: int) -> Scenario:
    return compose(order.seed, sequence, order.scans, order.rare, order.sensor or load_sensor(SENSOR))


def _one(folder: Path, name: str, order: Order, scenario: Scenario, world: World, sequence: int, k: int) -> None:
    poses = scenario.ego.poses
    rng = np.random.default_rng([order.seed, sequence, k, 1])
    sensor, distort = scenario.sensor, order.distort or not scenario.sensor.compensated
    scan = sweep(world, poses, k, rng, sensor, scenario.calibration, scenario.surfaces, distort)
    tr = mounted(order.camera_shift)
    seen = visible(world, poses[k], k, scan.points[:, :3], tr=tr)
    if order.images:
        weather = int(np.random.default_rng([order.seed, sequence, 2]).integers(1 << 31))
        write_picture(folder, name, k, *picture(world, poses[k], k, weather, tr=tr))
    write_truth(folder, name, k, objects_at(scenario, k, scan.words), seen)
    write_scan(folder, name, k, scan)


def objects_at(scenario: Scenario, k: int, words: npt.NDArray[Any]) -> list[ObjectTruth]:
    """Truth of every object within 90 m of the sensor at scan ``k`` whose scan carries label words ``words`` [N]."""
    inverse = invert(scenario.ego.poses[k])
    here = scenario.ego.poses[k, :3, 3]
    ids, counts = np.unique(words[words >> 16 > 0], return_counts=True)
    points = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    objects = []
    for item, place, extent in scenario.standing:
        if np.hypot(item.x - here[0], item.y - here[1]) < 90.0:
            seen = points.get(item.word, 0)
            objects.append(ObjectTruth(item.word, item.kind, inverse @ place, np.zeros(3), extent, seen))
    for track in scenario.tracks:
        if np.linalg.norm(track.poses[k, :2, 3] - here[:2]) < 90.0:
            size = shape(track.kind, track.variant, (float(track.phase[k]) / 8,)).size()
            velocity: Floats = inverse[:3, :3] @ track.velocity[k]
            objects.append(
                ObjectTruth(track.word, track.kind, inverse @ track.poses[k], velocity, size, points.get(track.word, 0))
            )
    return objects


def _check(order: Order) -> None:
    for name, low, high in (
        ("sequences", 1, 100),
        ("scans", 1, 1_000_000),
        ("seed", 0, 1 << 63),
        ("rare", 0.0, 1000.0),
    ):
        value = getattr(order, name)
        if not low <= value <= high:
            raise UsageError(f"--{name} {value} is out of range; give {low} to {high}.")
    if not all(abs(metres) <= 5.0 for metres in order.camera_shift):
        given = " ".join(f"{metres:g}" for metres in order.camera_shift)
        raise UsageError(f"--camera-shift {given} is out of range; give three numbers of at most 5 m each way.")


def _claim(root: Path, order: Order, overwrite: bool) -> None:
    """Make ``root`` ours, or refuse; without our settings in its ``simulation.json`` nothing is ever removed."""
    header = root / "simulation.json"
    wanted = order.header()
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; give a folder.")
    if root.is_dir() and any(root.iterdir()):
        found = _load(header)
        if not isinstance(found, dict) or "generation" not in found:
            raise UsageError(f"{root} holds something that is no simulation of ours; give an empty or new folder.")
        if found != wanted and not overwrite:
            changed = ", ".join(f"{k} {found.get(k)} -> {v}" for k, v in (found | wanted).items() if found.get(k) != v)
            raise UsageError(
                f"{root} holds a simulation of other settings ({changed}); give another folder or --overwrite."
            )
        if overwrite:
            for name in ("sequences", "truth"):
                shutil.rmtree(root / name, ignore_errors=True)
    write_json(header, wanted)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _done(root: Path, name: str, k: int, images: bool) -> bool:
    """Whether a scan is complete: velodyne is written last."""
    scan = root / "sequences" / name / "velodyne" / f"{k:06d}.bin"
    return scan.is_file() and (not images or (truth_folder(root, name) / "class_2" / f"{k:06d}.png").is_file())
