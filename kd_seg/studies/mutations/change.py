"""Changes to the bytes of a valid file: blind ones, and ones that know its words, numbers and lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

Change = Callable[[bytearray, Random, Sequence[bytes]], bytearray]

LONGEST = 1 << 20
"""Bytes; a mutated input is cut there."""

_TEXT = 4096
"""Bytes at the start of a file that text changes are made to."""

NUMBERS = [
    b"0", b"1", b"-1", b"2", b"3", b"7", b"255", b"256", b"65535", b"65536", b"2147483647", b"2147483648",
    b"4294967295",
    b"4294967296", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"40000000000000",
    b"1e308", b"1e999", b"-1e999", b"nan", b"inf", b"-inf", b"1e-320", b"0x10", b"1_000", b"010", b"1.5", b"", b"+",
    b"-0", b"9" * 400,
]  # fmt: skip

_INTEGERS = [0, 1, 2, 3, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1]


def flip(content: bytearray, rng: Random, words: Sequence[bytes]) -> bytearray:
    """Flip single bits."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def scatter(content: bytearray, rng: Random, _: Sequence[bytes]) -> bytearray:
    """Replace bytes near one place by random ones."""
    start, length = _range(content, rng, 16)
    content[start : start + length] = rng.randbytes(length)
    return content


def cut(content: bytearray, rng: Random, _: Sequence[bytes]) -> bytearray:
    """Leave out the end."""
    return content[: rng.randrange(len(content) + 1)]


def leave_out(content: bytearray, rng: Random, _: Sequence[bytes]) -> bytearray:
    """Leave out a part in the middle."""
    start, length = _range(content, rng, 256)
    del content[start : start + length]
    return content


def repeat(content: bytearray, rng: Random, _: Sequence[bytes]) -> bytearray:
    """Write a part again, once or many times."""
    start, length = _range(content, rng, 64)
    content[start:start] = content[start : start + length] * rng.choice((1, 1, 2, 100))
    return content


def insert(content: bytearray, rng: Random, words: Sequence[bytes]) -> bytearray:
    """Insert random bytes, zeros or a known word."""
    start, length = _range(content, rng, 64)
    known = rng.choice(words) if words else b"\n"
    content[start:start] = rng.choice((rng.randbytes(length), bytes(length), known, b"\n", b"\r\n", b"\xff" * length))
    return content


def integer(content: bytearray, rng: Random, _: Sequence[bytes]) -> bytearray:
    """Write a special integer of 1 to 8 bytes over a place, as if it were a length or a count."""
    width = rng.choice((1, 2, 4, 4, 8, 8))
    value = (rng.choice(_INTEGERS) + rng.choice((-1, 0, 0, 1))) % (1 << (8 * width))
    start = rng.randrange(max(len(content) - width, 0) + 1)
    if rng.random() < 0.5:
        start = start // width * width
    content[start : start + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return content


def number(content: bytearray, rng: Random, _: Sequence[bytes]) -> bytearray:
    """Replace a number in the text at the start by a special one."""
    found = list(re.finditer(rb"-?[0-9][0-9.eE+-]*", content[:_TEXT]))
    if found:
        start, end = rng.choice(found).span()
        content[start:end] = rng.choice(NUMBERS)
    return content


def word(content: bytearray, rng: Random, words: Sequence[bytes]) -> bytearray:
    """Replace a word in the text at the start by another one of the grammar, or one there by another there."""
    found = list(re.finditer(rb"[A-Za-z_][A-Za-z0-9_.]*", content[:_TEXT]))
    if found:
        start, end = rng.choice(found).span()
        others = [*words, *(each.group() for each in found)]
        content[start:end] = rng.choice(others)
    return content


def line(content: bytearray, rng: Random, words: Sequence[bytes]) -> bytearray:
    """Leave a line of the start out, write it again elsewhere, or exchange it for another."""
    head = bytes(content[:_TEXT])
    lines = head.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(3)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    else:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    return bytearray(b"\n".join(lines)) + content[_TEXT:]


CHANGES: tuple[Change, ...] = (flip, scatter, cut, leave_out, repeat, insert, integer, number, word, line)


def mutate(seeds: Sequence[bytes], words: Sequence[bytes], rng: Random) -> bytes:
    """One input: a seed with one to six changes, sometimes spliced with another seed."""
    content = bytearray(rng.choice(seeds))
    if rng.random() < 0.05:
        other = rng.choice(seeds)
        content = content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        content = rng.choice(CHANGES)(content, rng, words)
    return bytes(content[:LONGEST])


def _range(content: bytearray, rng: Random, longest: int) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(rng.randrange(1, longest + 1), max(len(content) - start, 1))
