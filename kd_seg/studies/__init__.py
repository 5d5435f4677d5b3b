"""The evidence behind the documents; each is run as ``python -m kd_seg.studies.NAME``."""
