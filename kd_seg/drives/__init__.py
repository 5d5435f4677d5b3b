"""Drives: a recording of one's own LiDAR becomes scans, poses, calibration and pictures that everything here reads."""
