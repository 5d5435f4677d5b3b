"""``image_units``: forward and backward distillation of knowledge units."""

from kd_seg.objectives.image_units.objective import ImageUnits
from kd_seg.objectives.image_units.settings import BackwardSettings, ImageUnitsSettings

__all__ = ["BackwardSettings", "ImageUnits", "ImageUnitsSettings"]
