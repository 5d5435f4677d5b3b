"""Cameras: projection, visibility, image teachers, regions, knowledge units, and the cache of teacher outputs."""
