"""What a student learns from: each objective is one file or folder that registers itself."""

from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Sample, Step, Term, View

__all__ = ["OBJECTIVES", "Context", "Objective", "Sample", "Step", "Term", "View"]
