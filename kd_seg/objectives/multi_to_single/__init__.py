"""``multi_to_single``: a teacher that sees instances fused over several scans teaches a single-scan student."""

from kd_seg.objectives.multi_to_single.objective import MultiToSingle

__all__ = ["MultiToSingle"]
