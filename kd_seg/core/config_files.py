"""YAML files of configurations: where they lie, and how one stands on another. Knows no settings model."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from kd_seg.core.errors import ConfigError
from kd_seg.core.yaml_text import load_file


def find_config(name: str | Path) -> Path:
    """Path of a config: as given, else in the checkout's ``configs/``, else in an installed ``share/kd_seg/configs``.

    The suffix ``.yaml`` and a leading ``configs/`` may be left out; ``experiments/``, where 0.1.0 had its sweeps,
    means ``sweeps/``. Raises ConfigError listing near names.
    """
    asked = Path(name)
    names = [asked, asked.with_name(asked.name + ".yaml")]
    for candidate in names:
        if is_file(candidate):
            return candidate
    folders = config_folders()
    inner = [Path(*n.parts[1:]) if n.parts[:1] == ("configs",) and len(n.parts) > 1 else n for n in names]
    inner = [Path("sweeps", *n.parts[1:]) if n.parts[:1] == ("experiments",) else n for n in inner]
    for folder in folders:
        for candidate in inner:
            if is_file(folder / candidate):
                return folder / candidate
    known = [str(p.relative_to(f)) for f in folders for p in f.rglob("*.yaml")]
    near = difflib.get_close_matches(str(inner[-1]), known, n=3, cutoff=0.4)
    hint = f" Near names: {', '.join(near)}." if near else ""
    raise ConfigError(f"There is no config {str(name)!r} here or among the shipped ones.{hint}")


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def config_folders() -> list[Path]:
    """Folders that hold shipped configs: the checkout's, then any ``share/kd_seg/configs`` above the package."""
    package = Path(__file__).resolve().parents[1]
    candidates = [package.parent / "configs"]
    candidates += [parent / "share" / "kd_seg" / "configs" for parent in package.parents]
    return [c for c in candidates if (c / "classes").is_dir()]


def read_yaml(path: Path, inherit: bool = True) -> dict[str, Any]:
    """Read a YAML mapping; ``base: other.yaml`` (relative to the file, else a shipped config) is read first and merged.

    Mappings merge key by key, everything else (lists too) is replaced. With ``inherit=False`` ``base`` is a key like
    any other. Raises ConfigError naming file and line.
    """
    return _read(path, ()) if inherit else _load(path)


def _load(path: Path) -> dict[str, Any]:
    content = load_file(path)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds a {type(content).__name__}, not a mapping of sections; see configs/ for examples."
        )
    return content


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    content = _load(path)
    base = content.pop("base", None)
    if base is None:
        return content
    near = path.parent / str(base)
    parent = near if is_file(near) else find_config(str(base))
    if parent.resolve() in seen:
        raise ConfigError(f"{path}: base {base!r} leads back to itself; remove one of the links.")
    return merge(_read(parent, (*seen, path.resolve())), content)


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``below``: mappings key by key, everything else replaced. Neither argument is changed."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
