"""Official metrics of a checkpoint, a run or a folder of predictions."""

from kd_seg.evaluation.confusion import DISTANCES, confusion, confusion_by_distance
from kd_seg.evaluation.evaluate import Selection, evaluate, evaluate_scan, select
from kd_seg.evaluation.metrics import Scores, scores
from kd_seg.evaluation.predictors import FusedNetwork, LabelFolder, NetworkPredictor, Predicted, Predictor
from kd_seg.evaluation.result import Evaluation, read_evaluation, write_evaluation

__all__ = [
    "DISTANCES",
    "Evaluation",
    "FusedNetwork",
    "LabelFolder",
    "NetworkPredictor",
    "Predicted",
    "Predictor",
    "Scores",
    "Selection",
    "confusion",
    "confusion_by_distance",
    "evaluate",
    "evaluate_scan",
    "read_evaluation",
    "scores",
    "select",
    "write_evaluation",
]
