"""The world on disk: scans, labels, poses, calibration, pictures and other point files."""

from kd_seg.scans.arrays import Points, Words
from kd_seg.scans.calibration import Calibration, read_calibration, read_poses, read_times
from kd_seg.scans.cloud import Cloud, Kind, stack
from kd_seg.scans.point_files import BAG_SUFFIXES, FileFormat, is_bag, read_point_file, read_points
from kd_seg.scans.scan import Camera, Scan, read_words
from kd_seg.scans.semantic_kitti import SPLITS, Key, KittiSequence, SemanticKitti

__all__ = [
    "BAG_SUFFIXES",
    "SPLITS",
    "Calibration",
    "Camera",
    "Cloud",
    "FileFormat",
    "Key",
    "Kind",
    "KittiSequence",
    "Points",
    "Scan",
    "SemanticKitti",
    "Words",
    "is_bag",
    "read_calibration",
    "read_point_file",
    "read_points",
    "read_poses",
    "read_times",
    "read_words",
    "stack",
]
