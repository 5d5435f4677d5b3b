"""Poses where a recording has none: KISS-ICP (I. Vizzo et al., RA-L 2023), from its own package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kd_seg.core.errors import DataError, MissingDependencyError
from kd_seg.drives.recording import RecordedCloud
from kd_seg.drives.trajectory import Trajectory

LARGEST_STEP_M = 15.0
"""Between two scans: more than a car drives in 0.3 s at 180 km/h."""


def estimate(frames: Iterator[RecordedCloud], max_range_m: float = 100.0) -> Trajectory:
    """Poses of the sensor by LiDAR odometry; the first frame is the world.

    Raises MissingDependencyError without the package, DataError where there is no frame or the estimate jumps.
    """
    kiss = _kiss(max_range_m)
    times, poses = [], []
    for frame in frames:
        xyz = np.ascontiguousarray(frame.points[:, :3], np.float64)
        kiss.register_frame(xyz, _share(frame))
        times.append(frame.stamp)
        poses.append(kiss.last_pose.copy())
    if not times:
        raise DataError("The recording holds no cloud that can be read, so there are no poses to estimate.")
    steps = np.linalg.norm(np.diff(np.array(poses)[:, :3, 3], axis=0), axis=1)
    if len(steps) and steps.max() > LARGEST_STEP_M:
        at = int(steps.argmax())
        raise DataError(
            f"LiDAR odometry jumps by {steps.max():.0f} m between clouds {at} and {at + 1}; the clouds may be in a "
            "world frame already, or too far apart. Give --odometry or --poses."
        )
    moments, first = np.unique(times, return_index=True)  # of clouds with one stamp the first counts
    return Trajectory(moments, np.array(poses)[first])


def _share(frame: RecordedCloud) -> Any:
    """Times of the points as shares of the sweep, 0 to 1, or none where all are equal."""
    if frame.times is None or len(frame.times) == 0 or np.ptp(frame.times) <= 0:
        return np.array([])
    return (frame.times - frame.times.min()) / np.ptp(frame.times)


def _kiss(max_range_m: float) -> Any:
    try:
        from kiss_icp.config import KISSConfig
        from kiss_icp.kiss_icp import KissICP
    except ImportError:
        raise MissingDependencyError(
            "Estimating poses needs the package kiss-icp; run pip install 'kd_seg[drives]', or give --odometry "
            "or --poses."
        ) from None
    config = KISSConfig()
    config.data.max_range = max_range_m
    config.data.deskew = True
    config.mapping.voxel_size = max_range_m / 100.0
    config.registration.max_num_threads = 1
    return KissICP(config)
