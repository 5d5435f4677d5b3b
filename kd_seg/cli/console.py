"""Shared by every command: results on stdout, all else on stderr, one sentence per error, progress with time left."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kd_seg.core.errors import KdSegError
from kd_seg.core.imports import import_failure

T = TypeVar("T")
err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn expected errors into one sentence and an exit code; ``--debug`` (before the command) shows the traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KdSegError as error:
            if os.environ.get("KD_SEG_DEBUG"):
                raise
            err.print(f"[bold red]error:[/] {_escape(str(error))}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            err.print("stopped; files already written are complete")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except Exception as error:
            failure = import_failure(error)
            if failure is None or os.environ.get("KD_SEG_DEBUG"):
                raise
            err.print(f"[bold red]error:[/] {_escape(str(failure))}")
            raise typer.Exit(failure.exit_code) from None

    return run


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def say(text: str) -> None:
    """One line for a person, on stderr."""
    err.print(_escape(text))


def print_json(content: Any) -> None:
    """JSON for a program, on stdout (NaN is not JSON: use None)."""
    sys.stdout.write(json.dumps(content, allow_nan=False) + "\n")


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
