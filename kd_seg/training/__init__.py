"""Training: the configuration, the loader, augmentation, optimisation, the run folder and the Trainer."""

from kd_seg.training.config import TrainingConfig, read_training_config
from kd_seg.training.run import RunFolder
from kd_seg.training.trainer import Trainer

__all__ = ["RunFolder", "Trainer", "TrainingConfig", "read_training_config"]
