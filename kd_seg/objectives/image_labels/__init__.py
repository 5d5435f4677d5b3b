"""Labels of pixels for image networks, and labels of points learned through pictures."""

from kd_seg.objectives.image_labels.objective import ImageLabels, ImageLabelsSettings

__all__ = ["ImageLabels", "ImageLabelsSettings"]
