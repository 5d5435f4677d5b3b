"""The few kinds of error that kd_seg raises on purpose.

A message is one sentence: what is wrong, where (file, key, row), and how to fix it. The command line prints the
sentence alone; ``--debug`` shows the traceback.
"""


class KdSegError(Exception):
    """Any failure that kd_seg expects; its text is meant for the user."""

    exit_code = 1

    def __str__(self) -> str:
        """One line that a terminal shows as it is, whatever a damaged file smuggled into it."""
        text = " ".join(super().__str__().split())
        return "".join(letter if letter.isprintable() else "?" for letter in text)


class UsageError(KdSegError):
    """A command was called in a way that cannot work (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or override is wrong: unknown key, wrong type, value out of range."""


class DataError(KdSegError):
    """A scan, label, calibration, pose, bag or cache on disk is not what it should be."""


class CheckpointError(KdSegError):
    """A checkpoint cannot be read, or does not fit what it is asked to do."""


class MissingDependencyError(KdSegError):
    """A library, system library or device that the request needs is not there."""
