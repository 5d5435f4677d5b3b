"""Regions: pixels and points that are pooled together."""
