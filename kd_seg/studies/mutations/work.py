"""Reading mutated inputs in child processes with limits of memory and time, and telling what became of each."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from kd_seg.core.errors import KdSegError
from kd_seg.studies.mutations.change import mutate
from kd_seg.studies.mutations.readers import Reader

KINDS = ("answered", "refused", "crashed", "hung", "over memory")
SECONDS = 10.0
"""Processor time that one input may take."""
MEMORY = 1 << 30
"""Bytes of address space that reading may add."""

_PATIENCE = 300.0
"""Seconds of wall time without a new input after which a child is killed."""


@dataclass
class MutationTally:
    """What became of the inputs of one reader.

    Attributes:
        counts: by kind. findings: (input number, kind, what happened) of every input that was no answer or refusal.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    findings: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, number: int, kind: str, what: str = "") -> None:
        """Count one input."""
        self.counts[kind] += 1
        if kind not in KINDS[:2]:
            self.findings.append((number, kind, what))


class TookTooLongError(BaseException):
    """The processor time of one input is used up."""


def input_of(reader: Reader, made: list[bytes], seed: int, number: int) -> bytes:
    """Input ``number`` of a reader: the same for the same seed, however the work is cut."""
    rng = Random(f"{seed}/{reader.name}/{number}")
    content = mutate(made, reader.words, rng)
    return reader.repair(content) if reader.repair is not None and rng.random() < 0.7 else content


def run(reader: Reader, made: list[bytes], seed: int, numbers: range, folder: Path) -> MutationTally:
    """Read inputs ``numbers`` in children, a new one after each that dies; findings name the signal."""
    tally = MutationTally()
    at = numbers.start
    while at < numbers.stop:
        at = _one_child(reader, made, seed, range(at, numbers.stop), folder, tally)
    return tally


def _one_child(reader: Reader, made: list[bytes], seed: int, numbers: range, folder: Path, tally: MutationTally) -> int:
    """Fork, read until the end or a death, and return the next number to read."""
    shared = mmap.mmap(-1, 16)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage does not follow
        os.close(read_end)
        status = 1
        try:
            _child(reader, made, seed, numbers, folder, shared, write_end)
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    lines = _listen(child, read_end, shared)
    for line in lines:
        number, kind, what = line.split("\t", 2)
        tally.add(int(number), kind, what)
    done: int = numbers.start + struct.unpack("<q", shared[:8])[0]
    _, status = os.waitpid(child, 0)
    if status == 0:
        return numbers.stop
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    kind = "hung" if killed == signal.SIGKILL else "crashed"
    tally.add(done, kind, f"signal {killed}" if killed else f"exit {os.WEXITSTATUS(status)}")
    return done + 1


def _listen(child: int, read_end: int, shared: mmap.mmap) -> list[str]:
    """What a child wrote until it ended; it is killed where it stays at one input for too long."""
    os.set_blocking(read_end, False)
    content, last, since = b"", -1, time.monotonic()
    while True:
        try:
            part = os.read(read_end, 1 << 16)
            if not part:
                break
            content += part
            continue
        except BlockingIOError:
            time.sleep(0.05)
        now = struct.unpack("<q", shared[:8])[0]
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > _PATIENCE:
            os.kill(child, signal.SIGKILL)
    os.close(read_end)
    return content.decode("utf-8", "replace").splitlines()


def _child(
    reader: Reader, made: list[bytes], seed: int, numbers: range, folder: Path, shared: mmap.mmap, out: int
) -> None:
    _limit_memory()
    signal.signal(signal.SIGPROF, _too_long)
    quiet = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    os.dup2(quiet.fileno(), 1)
    os.dup2(quiet.fileno(), 2)
    with open(out, "w", encoding="utf-8") as told:
        for place, number in enumerate(numbers):
            shared[:8] = struct.pack("<q", place)
            kind, what = judge(reader, input_of(reader, made, seed, number), folder / "input")
            told.write(f"{number}\t{kind}\t{what}\n")


def judge(reader: Reader, content: bytes, path: Path) -> tuple[str, str]:
    """What becomes of one input: its kind, and what happened where it is no answer."""
    printed = io.StringIO()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.redirect_stdout(printed):
            reader.read(content, path)
        kind, what = ("answered", "") if not printed.getvalue() else ("crashed", "printed to standard output")
    except KdSegError as error:
        kind, what = (
            ("refused", "") if str(error).isprintable() and str(error) else ("crashed", f"no sentence: {error!r}")
        )
    except TookTooLongError:
        kind, what = "hung", f"more than {SECONDS:g} s"
    except MemoryError as error:
        kind, what = "over memory", _place(error)
    except Exception as error:
        kind, what = "crashed", _place(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return kind, " ".join(ascii(what)[1:-1].split())


def _place(error: BaseException) -> str:
    """Type, text and innermost line of kd_seg's own."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "kd_seg" in f.filename and "mutations" not in f.filename
    ]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {where}: {str(error)[:200]}"


def _too_long(*_: Any) -> None:
    raise TookTooLongError


def _limit_memory() -> None:
    """MEMORY more than the address space in use now."""
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
