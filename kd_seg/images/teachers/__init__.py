"""Image teachers: each is one file that registers itself under a kind."""

from kd_seg.images.teachers.interface import (
    IMAGE_TEACHERS,
    NO_PREDICTION,
    Detections,
    ImageTeacher,
    Provenance,
    SemanticMap,
    TeacherEntry,
    TeacherOutput,
    Tools,
    TrainedNetwork,
    build_teacher,
    teacher_settings,
)

__all__ = [
    "IMAGE_TEACHERS",
    "NO_PREDICTION",
    "Detections",
    "ImageTeacher",
    "Provenance",
    "SemanticMap",
    "TeacherEntry",
    "TeacherOutput",
    "Tools",
    "TrainedNetwork",
    "build_teacher",
    "teacher_settings",
]
