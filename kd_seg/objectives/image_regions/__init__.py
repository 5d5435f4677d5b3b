"""``image_regions``: a student's features are aligned with a 2D teacher's, region by region."""

from kd_seg.objectives.image_regions.objective import ImageRegions
from kd_seg.objectives.image_regions.settings import PRESETS, ImageRegionsSettings

__all__ = ["PRESETS", "ImageRegions", "ImageRegionsSettings"]
