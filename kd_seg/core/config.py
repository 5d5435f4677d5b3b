"""YAML to validated, typed configuration: inheritance, overrides and errors that name file, key and fix."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from kd_seg.core.config_files import config_folders, find_config, is_file, merge, read_yaml
from kd_seg.core.errors import ConfigError
from kd_seg.core.hints import nearest
from kd_seg.core.yaml_text import parse_value

__all__ = [
    "Settings",
    "apply_overrides",
    "config_folders",
    "digest",
    "find_config",
    "is_file",
    "merge",
    "read_yaml",
    "validate",
]


class Settings(BaseModel):
    """Base of every settings model: unknown keys are errors, values are frozen once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


S = TypeVar("S", bound=BaseModel)


def apply_overrides(content: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Apply ``a.b.0.c=value`` overrides; values are YAML. List items are addressed by number. Returns a new mapping."""
    result: dict[str, Any] = copy.deepcopy(content)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"Override {override!r} is not of the form key=value, such as run.seed=1.")
        value = parse_value(text, f"Override {override!r}")
        _assign(result, path.strip().split("."), value, override)
    return result


def _assign(target: Any, keys: list[str], value: Any, override: str) -> None:
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            if not key.isdigit() or int(key) >= len(target):
                raise ConfigError(
                    f"Override {override!r}: {'.'.join(keys[:depth])} is a list of {len(target)}; "
                    f"{key!r} is not a number from 0 to {len(target) - 1}."
                )
            index = int(key)
            if last:
                target[index] = value
            else:
                target = target[index]
            continue
        if not isinstance(target, dict):
            raise ConfigError(f"Override {override!r}: {'.'.join(keys[:depth])} is a single value and has no keys.")
        if last:
            target[key] = value
        else:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]


def validate(model: type[S], content: dict[str, Any], source: str) -> S:
    """Build a settings model; every fault is one sentence with file, key path, and the nearest valid key.

    Args:
        source: the file (and that overrides were applied), for messages.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(" ".join(_sentence(model, fault, source) for fault in error.errors()[:3])) from None


def _sentence(model: type[BaseModel], fault: Any, source: str) -> str:
    location = [part for part in fault["loc"] if isinstance(part, int) or not str(part).startswith("function-")]
    key = ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        valid = _keys_at(model, list(location[:-1]))
        near = nearest(str(location[-1]), valid) or nearest(str(location[-1]), _paths(model))
        hint = f"did you mean {near!r}?" if near else f"valid keys: {', '.join(sorted(valid))}."
        return f"{source}: unknown key {key!r}; {hint}"
    message = fault["msg"].removeprefix("Value error, ")
    got = "" if fault["type"] in {"missing", "value_error"} else f", got {fault['input']!r}"
    return f"{source}: {key or 'the file'}: {message[0].lower()}{message[1:]}{got}."


def _keys_at(model: type[BaseModel], location: list[Any]) -> list[str]:
    current: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        following: list[type[BaseModel]] = []
        for candidate in current:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                following += _models_in(field.annotation)
            elif candidate.__name__ == str(part) or _tag_of(candidate) == str(part):
                following.append(candidate)
        current = following or current
    return sorted({name for candidate in current for name in candidate.model_fields})


def _paths(model: type[BaseModel], prefix: str = "", depth: int = 4) -> list[str]:
    """Dotted paths of all keys of a model."""
    found = []
    for name, field in model.model_fields.items():
        found.append(f"{prefix}{name}")
        if depth:
            for inner in _models_in(field.annotation):
                found += _paths(inner, f"{prefix}{name}.", depth - 1)
    return list(dict.fromkeys(found))


def _tag_of(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    values = get_args(kind.annotation) if kind is not None else ()
    return str(values[0]) if values else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def digest(content: Any) -> str:
    """Short stable digest (16 hex digits) of plain data or a settings model, for caches and checkpoints."""
    plain = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
