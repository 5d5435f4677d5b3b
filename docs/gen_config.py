"""Writes docs/configuration.md from the settings models: ``python docs/gen_config.py``."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from types import UnionType
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kd_seg.adaptation.settings import AdaptSettings
from kd_seg.objectives import OBJECTIVES
from kd_seg.training import TrainingConfig

TARGET = Path(__file__).with_name("configuration.md")
HEAD = """# Configuration

<!-- Written by docs/gen_config.py from the settings models; change those, then run it. -->

A configuration is one YAML file. `kd-seg train CONFIG` takes a path, or the bare name of a shipped file (the working
directory is searched first, then the checkout, then the installed `share/kd_seg/configs`).

- `base: other.yaml` inherits: mappings are merged key by key, everything else (lists too) is replaced.
- `key=value` on the command line overrides, with dotted paths and numbers for list items:
  `kd-seg train demo_baseline run.seed=1 objectives.0.lovasz=0.5`.
- An unknown key is an error that names the file, the key and the nearest valid one.
- `kd-seg train --show-config CONFIG` prints the resolved file with every default. The run folder keeps it as
  `config.yaml`.
- Exactly one of `run.steps`, `run.epochs` and `run.minutes` says how long a run is. Only the first two are
  reproducible.

Every key, with its default:
"""
ADAPTATION = "`training` is a training configuration; what follows from the drive and the student is filled in."


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, item in TrainingConfig.model_fields.items():
        models = _models(item.annotation)
        if models:
            parts.append(f"\n## {name}\n\n{_sentence(models[0])}\n\n{_table(models[0], '')}")
    parts.append(
        "\n## objectives\n\nA list; each entry names its `kind` and holds its own settings. A sum of the terms of all "
        "entries is learned from.\n"
    )
    for kind in OBJECTIVES.names():
        model = OBJECTIVES.get(kind).Settings
        parts.append(f"\n### {kind}\n\n{_sentence(OBJECTIVES.get(kind))}\n\n{_table(model, '')}")
    parts.append(
        "\n## adaptation\n\nThe file of `kd-seg adapt` ([a sensor of your own](drives.md)), `adapt.yaml` as shipped. "
        f"{ADAPTATION}\n\n{_table(AdaptSettings, '')}"
    )
    return "".join(parts)


def _sentence(thing: type) -> str:
    return (thing.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ").replace("``", "`")


def _table(model: type[BaseModel], prefix: str) -> str:
    rows = "| key | type | default | |\n|---|---|---|---|\n" if not prefix else ""
    for name, item in model.model_fields.items():
        inner = _models(item.annotation)
        if len(inner) == 1 and not _is_list(item.annotation):
            rows += _table(inner[0], f"{prefix}{name}.")
            continue
        text = (item.description or "").replace("|", "\\|")
        rows += f"| `{prefix}{name}` | {_type(item.annotation)} | {_default(item)} | {text} |\n"
    return rows


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (list, dict, tuple)


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (list, tuple):
        inner = [argument for argument in arguments if argument is not Ellipsis]
        same = dict.fromkeys(_type(argument) for argument in inner)
        return f"list of {', '.join(same)}"
    if origin is dict:
        return "mapping"
    return {"str": "text", "bool": "true or false", "int": "whole number", "float": "number"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def _default(item: FieldInfo) -> str:
    if item.is_required():
        return "(required)"
    value = item.get_default(call_default_factory=True)  # type: ignore[call-arg]
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return f"`{json.dumps(value, default=str)}`"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
