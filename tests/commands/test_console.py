"""What all commands share: exit codes, one sentence per error, progress, and help with examples that work."""

from __future__ import annotations

import inspect
import io
import json
import logging
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from console_script import kd_seg
from rich.console import Console

from kd_seg.cli import console
from kd_seg.cli.main import app
from kd_seg.core.errors import CheckpointError, ConfigError, DataError, MissingDependencyError, UsageError

COMMANDS = {info.name: inspect.unwrap(info.callback) for info in app.registered_commands if info.callback}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What goes to stderr."""
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, highlight=False, soft_wrap=True, width=300))
    monkeypatch.delenv("KD_SEG_DEBUG", raising=False)
    level = console.LOG.level
    console.listen()
    yield text
    console.LOG.setLevel(level)
    console.LOG.handlers = [handler for handler in console.LOG.handlers if not isinstance(handler, console._Lines)]


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return console.guarded(command)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a"), 2),
        (ConfigError("a"), 2),
        (DataError("a"), 1),
        (CheckpointError("a"), 1),
        (MissingDependencyError("a"), 1),
    ],
)
def test_an_expected_error_is_one_sentence_and_an_exit_code(error: Exception, code: int, printed: io.StringIO) -> None:
    with pytest.raises(typer.Exit) as ended:
        raising(error)()
    assert ended.value.exit_code == code
    assert printed.getvalue() == "error: a\n"


def test_brackets_of_a_message_are_printed_as_they_are(printed: io.StringIO) -> None:
    with pytest.raises(typer.Exit):
        raising(DataError("points [N, 4] of scan [bold]x.bin"))()
    assert "points [N, 4] of scan [bold]x.bin" in printed.getvalue()
    console.say("labels [3]")
    assert printed.getvalue().endswith("labels [3]\n")


def test_debug_shows_the_error_itself(printed: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_SEG_DEBUG", "1")
    with pytest.raises(DataError, match="broken"):
        raising(DataError("broken"))()


def test_ctrl_c_ends_with_the_code_of_the_signal(printed: io.StringIO) -> None:
    with pytest.raises(typer.Exit) as ended:
        raising(KeyboardInterrupt())()
    assert ended.value.exit_code == 130
    assert "Traceback" not in printed.getvalue()


def test_a_fault_of_the_program_is_one_sentence_too(printed: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(typer.Exit) as ended:
        raising(ZeroDivisionError("by zero"))()
    assert ended.value.exit_code == 1
    assert printed.getvalue().startswith("error: ")
    assert printed.getvalue().count("\n") == 1
    monkeypatch.setenv("KD_SEG_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError("by zero"))()


def test_verbose_shows_what_the_package_does_and_where(printed: io.StringIO) -> None:
    log = logging.getLogger("kd_seg.caches")
    log.debug("hidden")
    console.listen(verbose=True)
    log.debug("opened %s", "units")
    console.listen()
    log.debug("hidden again")
    log.warning("something is odd")
    assert printed.getvalue() == "kd_seg.caches: opened units\nwarning: something is odd\n"
    assert sum(isinstance(handler, console._Lines) for handler in console.LOG.handlers) == 1


def test_what_libraries_print_does_not_reach_a_programs_answer(
    printed: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        print("a library's banner")
        console.print_json({"ok": True})

    console.guarded(command)()
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"ok": True}
    assert "banner" in captured.err


def test_progress_without_a_terminal_is_a_line_every_ten_seconds(
    printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 100.0}
    monkeypatch.setattr(console.time, "monotonic", lambda: clock["now"])
    with console.progress("scans", 40) as advance:
        for _ in range(10):
            clock["now"] += 2.5
            advance(1)
    lines = printed.getvalue().splitlines()
    assert lines == ["scans: 4/40, 0.4/s, 90 s left", "scans: 8/40, 0.4/s, 80 s left"]


def test_progress_of_unknown_length_names_no_end(printed: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(console.time, "monotonic", lambda: clock["now"])
    with console.progress("scans", None) as advance:
        clock["now"] = 20.0
        advance(30)
    assert printed.getvalue() == "scans: 30/?, 1.5/s\n"


def test_tracked_items_are_those_given(printed: io.StringIO) -> None:
    assert list(console.tracked(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert list(console.tracked([1, 2], "numbers")) == [1, 2]


def test_json_for_programs_refuses_what_is_not_json(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        console.print_json({"a": float("nan")})


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    text = inspect.cleandoc(COMMANDS[name].__doc__ or "")
    first = text.split("\n", 1)[0]
    assert re.match(r"[A-Z].*[.:]$", first), first
    examples = [shlex.split(line) for line in re.findall(rf"kd-seg {name}[^\n]*", text)]
    assert examples
    assert all(len(words) >= 2 for words in examples)
    assert "Example: kd-seg" in text


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_parameter_has_a_help_text(name: str) -> None:
    hints: dict[str, Any] = inspect.get_annotations(COMMANDS[name], eval_str=True)
    texts = {key: hint.__metadata__[0].help for key, hint in hints.items() if key != "return"}
    assert all(text and text[0].isascii() and text.rstrip().endswith((".", ")")) for text in texts.values()), texts


def test_the_program_answers_without_arguments_and_with_wrong_ones() -> None:
    helped = kd_seg("--help").stdout
    assert all(name in helped for name in COMMANDS)
    assert "No such command" in kd_seg("fly", code=2).stderr
    assert re.fullmatch(r"kd-seg \d+\.\d+\.\d+\n", kd_seg("--version").stdout)


def test_the_traceback_is_shown_only_on_request(tmp_path: Any) -> None:
    import os
    import subprocess
    import sys
    from pathlib import Path

    script = Path(sys.executable).parent / "kd-seg"
    asked = [script, "--debug", "info", tmp_path / "nowhere"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "does not exist" in kd_seg("info", tmp_path / "nowhere", code=2).stderr
