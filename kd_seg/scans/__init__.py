"""The world on disk: scans, labels, poses, calibration, pictures and other point files."""

from kd_seg.scans.arrays import Points, Words
from kd_seg.scans.calibration import Calibration, read_calibration, read_poses, read_times
from kd_seg.scans.cloud import Cloud, Kind, stack
from kd_seg.scans.lidar import INTENSITY_MAX, IntensityRange, Sensor, to_unit
from kd_seg.scans.point_files import BAG_SUFFIXES, FileFormat, is_bag, read_point_file, read_points
from kd_seg.scans.scan import Camera, Scan, read_words
from kd_seg.scans.semantic_kitti import SPLITS, Key, KittiSequence, SemanticKitti

__all__ = [
    "BAG_SUFFIXES",
    "INTENSITY_MAX",
    "SPLITS",
    "Calibration",
    "Camera",
    "Cloud",
    "FileFormat",
    "IntensityRange",
    "Key",
    "Kind",
    "KittiSequence",
    "Points",
    "Scan",
    "SemanticKitti",
    "Sensor",
    "Words",
    "is_bag",
    "read_calibration",
    "read_point_file",
    "read_points",
    "read_poses",
    "read_times",
    "read_words",
    "stack",
    "to_unit",
]
