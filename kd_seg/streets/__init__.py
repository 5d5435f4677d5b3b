"""The simulated world: streets, objects, motion, LiDAR, camera; writes the layout that ``kd_seg.scans`` reads."""

from kd_seg.scans.truth import ObjectTruth, read_class_image, read_objects, read_visibility
from kd_seg.streets.simulate import Order, simulate

__all__ = ["ObjectTruth", "Order", "read_class_image", "read_objects", "read_visibility", "simulate"]
