"""Parts of a job for arrays of jobs: ``i/n``."""

from __future__ import annotations

from kd_seg.core.errors import UsageError

Shard = tuple[int, int]
"""(i, n): the i-th of n parts, i from 1."""

WHOLE: Shard = (1, 1)


def parse_shard(text: str | None) -> Shard:
    """(i, n) of "i/n"; (1, 1) of None.

    Raises:
        UsageError: not of that form, or not 1 <= i <= n.
    """
    if text is None:
        return WHOLE
    part, _, parts = text.partition("/")
    if not (_is_number(part) and _is_number(parts) and 1 <= int(part) <= int(parts)):
        raise UsageError(f"--shard {text} is not of the form i/n with 1 <= i <= n, such as 1/8.")
    return int(part), int(parts)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
