"""Meshes of everything that stands or moves in a street."""
