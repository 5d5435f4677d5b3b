"""Labels of pixels for image networks, and labels of points learned through pictures."""

from kd_seg.objectives.image_labels.objective import ImageLabels
from kd_seg.objectives.image_labels.settings import ImageLabelsSettings

__all__ = ["ImageLabels", "ImageLabelsSettings"]
