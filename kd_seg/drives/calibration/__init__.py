"""Calibration: what a recording tells of its sensor, and the node's parameters that follow from it."""
