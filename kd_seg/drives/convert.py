"""A recording in, a data root out: scans, times, poses, calibration and pictures in SemanticKITTI's layout."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kd_seg.core.errors import DataError, UsageError
from kd_seg.drives.cameras import BagCamera, calibrate_cameras, find_cameras, nearest, write_pictures
from kd_seg.drives.deskew import deskew
from kd_seg.drives.folder import DriveFolder
from kd_seg.drives.frames import FrameTree
from kd_seg.drives.motion import BagMotion, read_motion, read_odometry
from kd_seg.drives.odometry import estimate
from kd_seg.drives.pictures import Rectifier
from kd_seg.drives.point_fields import LONGEST_SWEEP_S
from kd_seg.drives.recording import BagRecording, FolderRecording, RecordedCloud, Recording
from kd_seg.drives.trajectory import Times, Trajectory, parse_extrinsic, read_tum, rising
from kd_seg.scans import FileFormat, is_bag
from kd_seg.serving.pointcloud2 import DEFAULT_INTENSITY_FIELDS

FULL_SCALE = {"unit": 1.0, "byte": 255.0, "uint16": 65535.0}
"""What intensity 1 of a scan file is in each range that drivers send."""

JUDGED = 5
"""Clouds that the intensity range is judged by."""

Stage = Callable[[str, int], Callable[[int], None]]
"""Begins a stage of the work: its name and total in, ``advance(count)`` out."""


@dataclass(frozen=True)
class ConvertOptions:
    """What ``kd-seg convert`` was asked for.

    Attributes:
        points: PointCloud2 topic; None = the only one.
        odometry: topic of nav_msgs/Odometry or geometry_msgs/PoseStamped. tf: the fixed frame to take from /tf.
        poses: TUM file. kiss_icp: estimate poses. At most one of the four.
        extrinsic: "x y z roll pitch yaw", the LiDAR in the frame whose poses are given; None = from the bag's
            /tf_static (an identity for TUM files).
        cameras, camera_infos: topics.
        deskew: undo the motion within a sweep by per-point times.
        every: take every n-th cloud. limit: at most so many clouds, 0 = all.
        intensity_range: unit, byte, uint16, or None = judged from the first clouds.
        intensity_fields: of a bag's clouds. form: how point files lie.
    """

    points: str | None = None
    odometry: str | None = None
    tf: str | None = None
    poses: Path | None = None
    kiss_icp: bool = False
    extrinsic: str | None = None
    cameras: tuple[str, ...] = ()
    camera_infos: tuple[str, ...] = ()
    deskew: bool = False
    every: int = 1
    limit: int = 0
    intensity_range: str | None = None
    intensity_fields: tuple[str, ...] = DEFAULT_INTENSITY_FIELDS
    form: FileFormat = field(default_factory=FileFormat)
    sequence: str = "00"
    overwrite: bool = False
    camera_tolerance_s: float = 0.06


@dataclass
class Converted:
    """What was written.

    Attributes:
        metres: driven, by the poses; None without poses.
        left_out: clouds that were not written, by reason.
    """

    folder: Path
    scans: int = 0
    points: int = 0
    pictures: int = 0
    metres: float | None = None
    poses_from: str = "none"
    intensity_range: str = "unit"
    seconds: float = 0.0
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As ``kd-seg convert --json`` prints it."""
        metres = round(self.metres, 2) if self.metres is not None else None
        return {**self.__dict__, "folder": str(self.folder), "metres": metres, "seconds": round(self.seconds, 2)}


def convert(source: Path, out: Path, options: ConvertOptions, stage: Stage) -> Converted:
    """Convert one recording; a run that was interrupted continues where it stopped.

    Args:
        source: a bag, or a folder of point files. out: the data root; the drive becomes ``out/sequences/NN``.
        stage: begins a stage of the work, for progress.

    Raises UsageError and DataError as the parts do.
    """
    started = time.monotonic()
    _check(source, options)
    bag = is_bag(source)
    given = read_tum(options.poses) if options.poses is not None else None
    recording: Recording = (
        BagRecording(
            source, options.points, options.intensity_fields, options.deskew or options.kiss_icp, options.deskew
        )
        if bag
        else FolderRecording(source, given, options.form)
    )
    motion = read_motion(source) if bag else None
    report = Converted(out / "sequences" / options.sequence)
    stamps = recording.stamps()
    report.left_out.update({f"clouds refused ({reason})": count for reason, count in recording.rejected().items()})
    wanted = _wanted(stamps, options, report)
    trajectory, report.poses_from = _trajectory(recording, motion, given, options, wanted, report, stage)
    cameras = find_cameras(source, options.cameras, options.camera_infos) if options.cameras else ()
    kept = _covered(stamps, wanted, trajectory, report)
    if options.deskew:  # first, so that what cannot be deskewed or projected leaves no folder behind
        _sweep_times(next(recording.frames(frozenset(kept[:1]))), source)
    tr, projections = calibrate_cameras(cameras, motion.tree if motion else FrameTree(), recording.frame_id)
    rectifiers = [Rectifier(camera.model) for camera in cameras]
    folder = DriveFolder(out, options.sequence, _made_from(recording, options, len(stamps)), options.overwrite)
    index_of = {number: index for index, number in enumerate(kept)}
    _write_scans(recording, folder, index_of, trajectory, options, report, stage)
    times = stamps[kept]
    _write_pictures(source, cameras, rectifiers, times, folder, options, report, stage)
    folder.finish(times - times[0], trajectory.at(times) if trajectory else None, tr, projections)
    report.metres = Trajectory(times, trajectory.at(times)).length_m() if trajectory else None
    report.seconds = time.monotonic() - started
    _hints(report, motion, options)
    return report


def _check(source: Path, options: ConvertOptions) -> None:
    if not source.exists():
        raise UsageError(f"{source} does not exist; give a bag or a folder of point files.")
    chosen = [
        name
        for name, value in (
            ("--odometry", options.odometry),
            ("--tf", options.tf),
            ("--poses", options.poses),
            ("--kiss-icp", options.kiss_icp),
        )
        if value
    ]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} exclude each other; poses come from one of them.")
    if options.camera_infos and not options.cameras:
        raise UsageError("--camera-info belongs to a --camera; name its image topic too.")
    if options.extrinsic and not (options.odometry or options.poses):
        raise UsageError("--extrinsic goes with --odometry or --poses; elsewhere poses are the LiDAR's already.")
    if options.sequence in {"", ".", ".."} or "/" in options.sequence:
        raise UsageError(f"--sequence {options.sequence!r} is no name of a folder; give one such as 00.")
    if options.deskew and not chosen:
        raise UsageError("--deskew needs poses; add --odometry TOPIC, --tf FRAME, --poses FILE or --kiss-icp.")
    if options.every < 1 or options.limit < 0:
        raise UsageError("--every must be 1 or more and --limit 0 or more.")
    if not is_bag(source):
        if not source.is_dir():
            raise UsageError(f"{source} is neither a bag nor a folder of point files.")
        for name, value in (
            ("--points", options.points),
            ("--odometry", options.odometry),
            ("--tf", options.tf),
            ("--camera", options.cameras),
            ("--deskew", options.deskew),
        ):
            if value:
                raise UsageError(f"{name} is for bags; {source} is a folder of point files.")


def _wanted(stamps: Times, options: ConvertOptions, report: Converted) -> list[int]:
    """Numbers of the clouds asked for, without those that cannot be read, and whose stamps go back or repeat."""
    readable = np.flatnonzero(np.isfinite(stamps))
    later = readable[rising(stamps[readable])]
    if len(later) < len(readable):
        report.left_out["clouds whose stamps go back or repeat"] = len(readable) - len(later)
    numbers = [int(number) for number in later[:: options.every]]
    return numbers[: options.limit] if options.limit else numbers


def _trajectory(
    recording: Recording,
    motion: BagMotion | None,
    given: Trajectory | None,
    options: ConvertOptions,
    wanted: list[int],
    report: Converted,
    stage: Stage,
) -> tuple[Trajectory | None, str]:
    extrinsic = parse_extrinsic(options.extrinsic) if options.extrinsic else None
    if given is not None:
        return given.then(extrinsic if extrinsic is not None else np.eye(4)), str(options.poses)
    if options.odometry is not None and motion is not None:
        poses, ignored = read_odometry(recording.source, options.odometry, motion, recording.frame_id, extrinsic)
        if ignored:
            report.warnings.append(
                f"{ignored} poses of {options.odometry} are no rigid motion (a quaternion not of length 1, NaN) and "
                "were ignored."
            )
        return poses, options.odometry
    if options.tf is not None and motion is not None:
        return motion.tree.trajectory(recording.frame_id, options.tf), f"/tf {options.tf}"
    if options.kiss_icp:
        advance = stage("estimating poses", len(wanted))

        def counted(frame: RecordedCloud) -> RecordedCloud:
            advance(1)
            return frame

        return estimate(map(counted, recording.frames(frozenset(wanted)))), "kiss-icp"
    return None, "none"


def _covered(stamps: Times, wanted: list[int], trajectory: Trajectory | None, report: Converted) -> list[int]:
    if trajectory is None:
        kept = wanted
    else:
        inside = trajectory.covers(stamps[wanted])
        kept = [number for number, good in zip(wanted, inside, strict=True) if good]
        if len(kept) < len(wanted):
            report.left_out["no pose at that time"] = len(wanted) - len(kept)
    if not kept:
        span = f"{stamps[0]:.3f} to {stamps[-1]:.3f} s" if len(stamps) else "none"
        poses = f"; the poses span {trajectory.times[0]:.3f} to {trajectory.times[-1]:.3f} s" if trajectory else ""
        raise DataError(
            f"No cloud of the recording can be used (times of clouds: {span}{poses}; refused: {report.left_out}); "
            "check topic and clocks."
        )
    return kept


def _made_from(recording: Recording, options: ConvertOptions, clouds: int) -> dict[str, Any]:
    """What tells one conversion from another, as JSON: the recording's files as they are now, and the options."""
    shown = {k: v for k, v in options.__dict__.items() if k not in {"overwrite", "form"}}
    if options.form != FileFormat():
        shown["form"] = asdict(options.form) | {"intensity_fields": list(options.form.intensity_fields)}
    files = [path.stat() for path in (*_files(recording), *([options.poses] if options.poses is not None else []))]
    return {
        "source": recording.source.name,
        "clouds": clouds,
        "bytes": sum(file.st_size for file in files),
        "changed_ns": max(file.st_mtime_ns for file in files),
        **{k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in shown.items()},
    }


def _files(recording: Recording) -> list[Path]:
    if isinstance(recording, FolderRecording):
        return recording.paths
    source = recording.source
    return [path for path in source.iterdir() if path.is_file()] if source.is_dir() else [source]


def _write_scans(
    recording: Recording,
    folder: DriveFolder,
    index_of: dict[int, int],
    trajectory: Trajectory | None,
    options: ConvertOptions,
    report: Converted,
    stage: Stage,
) -> None:
    report.intensity_range = options.intensity_range or _judge_intensity(recording, sorted(index_of)[:JUDGED], report)
    scale = np.float32(1.0 / FULL_SCALE[report.intensity_range])
    missing = frozenset(number for number, index in index_of.items() if not folder.has_scan(index))
    advance = stage("converting", len(index_of))
    advance(len(index_of) - len(missing))
    report.points = sum(folder.points_of(index) for number, index in index_of.items() if number not in missing)
    for frame in recording.frames(missing):
        points = frame.points
        if options.deskew and trajectory is not None:
            points = deskew(points, _sweep_times(frame, recording.source), frame.stamp, trajectory)
        points = points.copy()
        points[:, 3] = np.clip(points[:, 3] * scale, 0.0, 1.0)
        folder.write_scan(index_of[frame.number], points)
        report.points += len(points)
        advance(1)
    report.scans = len(index_of)


def _sweep_times(frame: RecordedCloud, source: Path) -> Times:
    """Seconds [N] from the stamp of each point; UsageError without any, DataError where they are of another clock."""
    if frame.times is None:
        raise UsageError(f"--deskew needs a time per point; the clouds of {source} have no such field.")
    away = float(np.median(frame.times))
    if abs(away) > LONGEST_SWEEP_S:
        raise DataError(
            f"the times of the points of {source} are {away:.3g} s away from their cloud's stamp, so they count by "
            "another clock or in another unit; convert without --deskew."
        )
    return frame.times


def _judge_intensity(recording: Recording, numbers: list[int], report: Converted) -> str:
    """The range that the first clouds' intensities have, said in a warning."""
    frames = list(itertools.islice(recording.frames(frozenset(numbers)), JUDGED))
    values = np.concatenate([frame.points[:, 3] for frame in frames]) if frames else np.empty(0, np.float32)
    if len(values) == 0 or values.max() == values.min():
        report.warnings.append(
            "all intensities are equal; if the recording has them under another name, give it with "
            "--set input.intensity_fields=[NAME]."
        )
        return "unit"
    high = float(np.percentile(values, 99))
    judged = "unit" if high <= 1.5 else "byte" if high <= 300 else "uint16"
    report.warnings.append(
        f"intensities reach {high:.4g} (99th percentile) and are taken as {judged}; if that is wrong, add "
        "--set input.intensity_range=unit, byte or uint16 and --overwrite."
    )
    return judged


def _write_pictures(
    source: Path,
    cameras: tuple[BagCamera, ...],
    rectifiers: list[Rectifier],
    times: Times,
    folder: DriveFolder,
    options: ConvertOptions,
    report: Converted,
    stage: Stage,
) -> None:
    for camera, rectify in zip(cameras, rectifiers, strict=True):
        found = nearest(times, camera.stamps, options.camera_tolerance_s)
        wanted: dict[int, list[int]] = {}
        for index, number in enumerate(found.tolist()):
            if number >= 0:
                wanted.setdefault(number, []).append(index)
        matched = int((found >= 0).sum())
        advance = stage(f"pictures of {camera.topic}", matched)
        faults = write_pictures(source, camera, rectify, wanted, folder, advance)
        report.pictures += matched - sum(len(wanted[number]) for number, _ in faults)
        if faults:
            report.left_out[f"unreadable pictures of {camera.topic}"] = len(faults)
            report.warnings.append(
                f"{len(faults)} pictures of {camera.topic} cannot be used; the first: {faults[0][1]}"
            )
        if matched < len(times):
            report.warnings.append(
                f"{len(times) - matched} of {len(times)} scans have no picture of {camera.topic} within "
                f"{1000 * options.camera_tolerance_s:.0f} ms."
            )


def _hints(report: Converted, motion: BagMotion | None, options: ConvertOptions) -> None:
    if motion is not None and motion.ignored:
        report.warnings.append(
            f"{motion.ignored} transforms of the bag are no rigid motion (a quaternion not of length 1, NaN) and were "
            "ignored, as ROS does."
        )
    if report.poses_from == "none":
        topics = ", ".join(motion.pose_topics) if motion and motion.pose_topics else ""
        where = f"--odometry {topics}" if topics else "--kiss-icp or --poses FILE.tum"
        if motion is not None and not topics:
            where = f"--tf FRAME, {where}"
        report.warnings.append(f"no poses were written, so scans cannot be fused; add {where}.")
