"""Every ``kd-seg ...`` in messages, docstrings and documents is one that the program knows, options included."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from kd_seg.cli.main import app

ROOT = Path(__file__).parents[2]
PROGRAM: click.Group = typer.main.get_command(app)  # type: ignore[assignment]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [path for package in ("kd_seg", "ros_nodes") for path in sorted((ROOT / package).rglob("*.py"))]
VALUE = "VALUE"
"""Stands for what a message fills in."""

PROSE = ("failed", "did", "commands")
"""Words that follow the program's name in sentences about the program itself."""

ENDS = re.compile(r"[.,;:)\]]+$")


def texts(path: Path) -> Iterator[str]:
    """The string literals of a source file, the filled-in parts of f-strings as VALUE."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each ``kd-seg COMMAND ...`` up to the end of the sentence, quotation or line."""
    for found in re.finditer(r"kd-seg +(?=\S)([^`'\"\n|]*)", text):
        words = []
        for word in found[1].split():
            words.append(ENDS.sub("", word))
            if ENDS.search(word) and not word.endswith("..."):
                break
        yield words


def problem(words: list[str]) -> str | None:
    """What the program does not know of a command; None where it knows all."""
    while words and words[0].startswith("-"):
        if not has_option(PROGRAM, words[0]):
            return f"no option {words[0]} before a command"
        words = words[1:]
    if not words or words[0].startswith(VALUE) or words[0] in (*PROSE, "COMMAND", "NAME", "..."):
        return None
    command = PROGRAM.commands.get(words[0])
    if command is None:
        return f"no command {words[0]}"
    wrong = [word for word in words[1:] if re.match(r"-{1,2}[a-z]", word) and not has_option(command, word)]
    return f"{words[0]} has no option {wrong[0]}" if wrong else None


def has_option(command: click.Command, word: str) -> bool:
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return word.partition("=")[0] in {*known, "--help", "-h"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_messages_exist(path: Path) -> None:
    found = [(words, problem(words)) for text in texts(path) for words in commands_in(text)]
    assert [(" ".join(words), wrong) for words, wrong in found if wrong is not None] == []


@pytest.mark.parametrize("path", [page for page in PAGES if page.is_file()], ids=lambda path: path.name)
def test_commands_in_documents_exist(path: Path) -> None:
    found = [(words, problem(words)) for words in commands_in(path.read_text(encoding="utf-8"))]
    assert [(" ".join(words), wrong) for words, wrong in found if wrong is not None] == []


TABLE = re.compile(r" {3,}[^# ]")
"""A command with its explanation beside it: an entry of a list of commands, not a whole command."""


def examples(path: Path) -> Iterator[str]:
    """Whole command lines in the code blocks of a page, without comments."""
    for block in re.findall(r"```(?:bash|sh|console)?\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith("kd-seg ") and "..." not in line and "[" not in line and not TABLE.search(line):
                yield line.partition(" #")[0].partition(" | ")[0].partition(" > ")[0].partition(" && ")[0]


@pytest.mark.parametrize("path", [page for page in PAGES if page.is_file()], ids=lambda path: path.name)
def test_examples_in_documents_parse(path: Path) -> None:
    for line in examples(path):
        _, name, *arguments = shlex.split(line)
        if not name.startswith("-"):
            PROGRAM.commands[name].make_context(name, arguments)  # raises a usage error


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("run kd-seg prepar CONFIG", "no command prepar"),
        ("`kd-seg eval RUN --inputs fused`", "eval has no option --inputs"),
        ("kd-seg eval with --input fused --rebuilt, or", "eval has no option --rebuilt"),
        ("kd-seg --debag eval RUN", "no option --debag before a command"),
        ("kd-seg eval RUN --rebuild. Then --all", None),
        ("kd-seg --debug", None),
    ],
)
def test_wrong_commands_would_be_found(text: str, why: str | None) -> None:
    (words,) = commands_in(text)
    assert problem(words) == why
