"""Instances over time: the library, registration, fusion with earlier scans, decoys, copy-paste and mixing."""
