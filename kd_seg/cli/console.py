"""Shared by every command: results on stdout, all else on stderr, one sentence per error, progress with time left."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kd_seg.core.failures import expected

T = TypeVar("T")


class CleanOutput(io.TextIOBase):
    """Where results go: the standard output that the program was started with, whatever prints to it meanwhile."""

    def __init__(self) -> None:
        self._real: TextIO | None = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within it only what is written here reaches the standard output; other prints go to standard error."""
        before, self._real = self._real, sys.stdout
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
            self._real.flush()
        finally:
            self._real = before

    def write(self, text: str) -> int:
        """Write text."""
        return (self._real or sys.stdout).write(text)

    def flush(self) -> None:
        """Hand on what was written."""
        (self._real or sys.stdout).flush()

    def isatty(self) -> bool:
        """Whether a person reads."""
        stream = self._real or sys.stdout  # None where it was closed before the program started
        return stream is not None and stream.isatty()


LOG = logging.getLogger("kd_seg")
answers = CleanOutput()
err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(file=answers, highlight=False, soft_wrap=True)  # type: ignore[arg-type]


def claim_streams() -> None:
    """Make the standard streams safe, once, before the first command.

    A closed one is replaced by nothing; characters that the locale lacks are written as escapes; what C libraries print
    goes to standard error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed; else the next file that is opened takes its number, and gets what is printed
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the rest of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        kept, encoding = os.dup(1), sys.stdout.encoding
        os.dup2(2, 1)
    except OSError:  # one of them is closed
        return
    sys.stdout = open(kept, "w", encoding=encoding, errors="backslashreplace")  # noqa: SIM115


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn every failure into one sentence and an exit code; ``--debug`` (before the command) shows the traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with answers.alone():
                command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            _complain("stopped; files already written are complete")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            _give_up_output()
            raise typer.Exit(1) from None
        except Exception as error:
            if os.environ.get("KD_SEG_DEBUG"):
                raise
            failure = expected(error)
            _complain(f"[bold red]error:[/] {_escape(str(failure))}")
            _flush_or_give_up()
            raise typer.Exit(failure.exit_code) from None

    return run


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens on standard error
        err.print(text)


def _flush_or_give_up() -> None:
    """Leave nothing to flush at exit, where Python would complain about a full or closed output once more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _give_up_output()


def _give_up_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


class _Lines(logging.Handler):
    """Log records as lines on stderr, beside the progress bars; warnings and errors say that they are."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        name = record.levelname.lower()
        mark = f"[yellow]{name}:[/] " if record.levelno >= logging.WARNING else ""
        _complain(mark + _escape(self.format(record)))


def listen(verbose: bool = False) -> None:
    """Print what the package logs; with ``verbose`` also its debug records, with their logger's name."""
    handler = next((h for h in LOG.handlers if isinstance(h, _Lines)), None) or _Lines()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s" if verbose else "%(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG if verbose else logging.INFO)


def say(text: str) -> None:
    """One line for a person, on stderr."""
    LOG.info("%s", text)


def warn(text: str) -> None:
    """One line about what may be wrong, on stderr."""
    LOG.warning("%s", text)


def print_json(content: Any) -> None:
    """JSON for a program, on stdout (NaN is not JSON: use None)."""
    tell(json.dumps(content, allow_nan=False))


def tell(text: str) -> None:
    """A result on stdout, with a line end."""
    answers.write(text + "\n")


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, else a plain line at most every ten seconds; yields ``advance(count)``."""
    if err.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err, transient=False) as bar:
            task = bar.add_task(what, total=total, rate="")
            start = time.monotonic()

            def advance(count: int = 1) -> None:
                bar.advance(task, count)
                done = bar.tasks[0].completed
                bar.update(task, rate=f"{done / max(time.monotonic() - start, 1e-9):.1f}/s")

            yield advance
        return
    state = {"done": 0, "start": time.monotonic(), "printed": time.monotonic()}

    def advance_plain(count: int = 1) -> None:
        state["done"] += count
        now = time.monotonic()
        if now - state["printed"] >= 10.0:
            state["printed"] = now
            rate = state["done"] / (now - state["start"])
            left = f", {(total - state['done']) / rate:.0f} s left" if total and rate > 0 else ""
            say(f"{what}: {state['done']:.0f}/{total if total is not None else '?'}, {rate:.1f}/s{left}")

    yield advance_plain


def tracked(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate with progress."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(what, total) as advance:
        for item in items:
            yield item
            advance(1)
