"""Training: the experiment file, the loader, augmentation, optimisation, the run folder and the Trainer."""

from kd_seg.training.config import Experiment, read_experiment
from kd_seg.training.run import RunFolder
from kd_seg.training.trainer import Trainer

__all__ = ["Experiment", "RunFolder", "Trainer", "read_experiment"]
