"""Writes docs/commands.md from the commands' signatures and docstrings: ``python docs/gen_cli.py``."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal

from typer.models import ArgumentInfo, OptionInfo

from kd_seg.cli.main import app

TARGET = Path(__file__).with_name("commands.md")
HEAD = """# Commands

<!-- Written by docs/gen_cli.py from the commands themselves; change those, then run it. -->

`kd-seg COMMAND --help` prints the same. Results go to stdout, everything else to stderr. The exit code is 0 when the
work is done, 1 when it failed and 2 for a wrong call. `kd-seg --debug COMMAND ...` shows the traceback of an error.
"""


def page() -> str:
    """The whole page, commands in the order of ``kd-seg --help``."""
    known = [(info.name, info.callback) for info in app.registered_commands]
    return HEAD + "".join(_section(name, inspect.unwrap(call)) for name, call in known if name and call)


def _section(name: str, command: Callable[..., None]) -> str:
    text, examples = _description(command)
    arguments, options = _tables(command)
    parts = [f"\n## kd-seg {name}\n\n{text}\n\n```\n" + "\n".join(examples) + "\n```\n"]
    if arguments:
        parts.append("\n| argument | value | |\n|---|---|---|\n" + "".join(arguments))
    if options:
        parts.append("\n| option | value | default | |\n|---|---|---|---|\n" + "".join(options))
    return "".join(parts)


def _description(command: Callable[..., None]) -> tuple[str, list[str]]:
    """The docstring's paragraphs without the examples, and the examples."""
    paragraphs, examples = [], []
    for paragraph in inspect.cleandoc(command.__doc__ or "").split("\n\n"):
        line = paragraph.strip().removeprefix("Example: ")
        if line.startswith("kd-seg "):
            examples.append(line)
        else:
            paragraphs.append(" ".join(line.split()))
    return "\n\n".join(paragraphs), examples


def _tables(command: Callable[..., None]) -> tuple[list[str], list[str]]:
    """Rows of the arguments and rows of the options."""
    hints = typing.get_type_hints(command, include_extras=True)
    arguments, options = [], []
    for parameter in inspect.signature(command).parameters.values():
        annotation, info = typing.get_args(hints[parameter.name])
        text = (info.help or "").replace("|", "\\|")
        if isinstance(info, ArgumentInfo):
            arguments.append(f"| `{parameter.name.upper()}` | {_type(annotation)} | {text} |\n")
        elif isinstance(info, OptionInfo):
            default = _default(parameter.default)
            options.append(f"| `{_flag(parameter.name, info)}` | {_type(annotation)} | {default} | {text} |\n")
    return arguments, options


def _flag(name: str, info: OptionInfo) -> str:
    # Inside Annotated the first declaration, such as "--out", stands where a default would.
    first = (info.default,) if isinstance(info.default, str) and info.default.startswith("-") else ()
    return ", ".join((*first, *(info.param_decls or ()))) or f"--{name.rstrip('_').replace('_', '-')}"


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is list:
        return f"{_type(arguments[0])}, repeatable"
    if origin is tuple:
        return " ".join(_type(argument) for argument in arguments)
    names = {"str": "text", "bool": "flag", "int": "whole number", "float": "number", "Path": "path"}
    return names[annotation.__name__]


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty or value is ...:
        return "(required)"
    return "" if value is None or value is False else f"`{value}`"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
