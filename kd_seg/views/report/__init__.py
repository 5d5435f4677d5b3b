"""``report.html``: curves, scores, pictures with errors marked, configuration, environment and costs of runs."""

from kd_seg.views.report.page import page, write_report
from kd_seg.views.report.runs import Run, read_run, read_runs

__all__ = ["Run", "page", "read_run", "read_runs", "write_report"]
