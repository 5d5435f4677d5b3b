"""The working directory of a small sweep, for every test here that asks for it."""

from small_sweep import sweep_folder

__all__ = ["sweep_folder"]
