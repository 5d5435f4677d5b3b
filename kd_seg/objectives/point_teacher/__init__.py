"""``point_teacher``: another network, on a grid of its own, teaches by its class probabilities of every point."""

from kd_seg.objectives.point_teacher.objective import PointTeacher
from kd_seg.objectives.point_teacher.settings import PointTeacherSettings

__all__ = ["PointTeacher", "PointTeacherSettings"]
