"""The simulated world: streets, objects, motion, LiDAR, camera; writes the layout that ``kd_seg.scans`` reads."""

from kd_seg.streets.simulate import Order, simulate
from kd_seg.streets.truth import ObjectTruth, read_class_image, read_objects, read_visibility

__all__ = ["ObjectTruth", "Order", "read_class_image", "read_objects", "read_visibility", "simulate"]
