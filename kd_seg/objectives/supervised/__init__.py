"""Learning from the labels of points."""

from kd_seg.objectives.supervised.objective import Supervised, SupervisedSettings, class_weights

__all__ = ["Supervised", "SupervisedSettings", "class_weights"]
