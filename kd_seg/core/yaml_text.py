"""YAML as people write it: 1e-3 is a number, 010 no octal one, a key stands once, nothing grows without bound."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from kd_seg.core.errors import ConfigError

LARGEST = 1 << 20
"""Bytes of a YAML file."""

_MOST_NODES = 200_000
"""Values in a file once its aliases are written out."""


class Loader(yaml.SafeLoader):
    """SafeLoader with the numbers of YAML 1.2; a mapping with a key twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As PyYAML's, which takes the last of equal keys without a word."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$"
        r"|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def load_text(text: str, where: str) -> Any:
    """The value of a YAML text; ConfigError in one sentence that begins with ``where`` and the line."""
    try:
        content = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = f"{where}, line {line + 1}" if line is not None else where
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{place}: {problem}; fix the YAML.") from None
    except (ValueError, ArithmeticError, TypeError, LookupError) as error:  # a date that is none, and the like
        raise ConfigError(f"{where}: {error}; fix the YAML.") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply; fix the YAML.") from None
    _check_size(content, where)
    return content


def load_file(path: Path) -> Any:
    """The value of a YAML file; ConfigError names file and line."""
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} is larger than {LARGEST >> 20} MiB; it is no configuration.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error}); check the path.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; give a YAML file.") from None
    return load_text(text, str(path))


def parse_value(text: str, where: str) -> Any:
    """The value of an override such as "1e-3" or "[04, 08]"; ConfigError where it is no YAML value."""
    try:
        return load_text(text, where)
    except ConfigError:
        raise ConfigError(f"{where}: {text!r} is not a YAML value.") from None


def _check_size(content: Any, where: str) -> None:
    """ConfigError where aliases make a small text a huge value, or one that contains itself."""
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > _MOST_NODES:
            raise ConfigError(f"{where}: its aliases grow beyond {_MOST_NODES:,} values; write it without them.")
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value
