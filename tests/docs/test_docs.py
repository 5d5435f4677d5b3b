"""The documents hold: generated pages, links, commands and their options, configurations, examples in Python."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gen_cli
import gen_config
import measures
import numpy as np
import pytest
import yaml
from documents import DOCS, PAGES, ROOT, blocks, fences
from patience import patience


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run_python(code: str, folder: Path, *roots: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a folder, with the checkout or other roots in front of the path."""
    path = os.pathsep.join(map(str, roots or (ROOT,)))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    seconds = 120 * patience()
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, env=environment)


def test_configuration_page_is_up_to_date() -> None:
    assert gen_config.TARGET.read_text(encoding="utf-8") == gen_config.page(), "run: python docs/gen_config.py"


def test_page_of_the_commands_is_up_to_date() -> None:
    assert gen_cli.TARGET.read_text(encoding="utf-8") == gen_cli.page(), "run: python docs/gen_cli.py"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_site_names_pages_that_exist() -> None:
    named = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "index.md" in named
    assert [page for page in named if not (DOCS / page).is_file()] == []


def commands_of(path: Path) -> list[list[str]]:
    """Every ``kd-seg ...`` line in the fences of a page, as words; comments and what follows a pipe left out."""
    lines = [line for _, _, text in fences(path) for line in text.splitlines()]
    found = [line.strip() for line in lines if re.match(r"\s*kd-seg [a-z]", line)]
    return [shlex.split(line.partition(" |")[0], comments=True) for line in found]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_and_options_exist(path: Path) -> None:
    known = {}
    for section in gen_cli.page().split("\n## kd-seg ")[1:]:
        options = {
            flag.strip() for group in re.findall(r"^\| `(--.*?)` ", section, re.MULTILINE) for flag in group.split(",")
        }
        known[section.split("\n", 1)[0]] = options | {"--help"}
    for words in commands_of(path):
        assert words[1] in known, words
        unknown = {word.split("=")[0] for word in words[2:] if word.startswith("--")} - known[words[1]]
        assert not unknown, f"{shlex.join(words)}: {unknown}"


def test_every_config_that_is_named_anywhere_exists() -> None:
    sources = [*(ROOT / "kd_seg").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml"), *PAGES]
    named = {name for path in sources for name in re.findall(r"configs/[\w/]+\.yaml", path.read_text(encoding="utf-8"))}
    patterns = {"configs/classes/NAME.yaml", "configs/sweeps/NAME.yaml"}
    assert [name for name in sorted(named - patterns) if not (ROOT / name).is_file()] == []


def test_sweep_of_the_documentation_is_valid() -> None:
    from kd_seg.core.config import validate
    from kd_seg.sweeps import Sweep

    ((_, block),) = blocks("sweeps.md", "yaml")
    assert validate(Sweep, yaml.safe_load(block), "docs/sweeps.md").baseline == "supervised"


def test_every_shipped_config_is_valid() -> None:
    from kd_seg.adaptation.settings import AdaptSettings
    from kd_seg.core.config import read_yaml, validate
    from kd_seg.sweeps import read_sweep
    from kd_seg.training import read_training_config

    adaptations = {ROOT / "configs" / name for name in ("adapt.yaml", "adapt_fused_teacher.yaml")}
    for path in adaptations:
        assert validate(AdaptSettings, read_yaml(path), str(path)).purpose
    for path in sorted(set((ROOT / "configs").glob("*.yaml")) - adaptations):
        assert read_training_config(path, []).purpose, f"{path} has no purpose"
    for path in sorted((ROOT / "configs" / "sweeps").glob("*.yaml")):
        assert read_sweep(path).purpose


def test_configurations_of_the_tutorials_are_valid(tmp_path: Path) -> None:
    from kd_seg.training import read_training_config

    written = [(title, text) for title, text in blocks("tutorials/researcher.md", "yaml") if title != "compare.yaml"]
    for title, text in written:
        (tmp_path / title).write_text(text)
    assert [read_training_config(tmp_path / title, []).run.steps for title, _ in written] == [12, 12]


def test_cache_of_the_documentation_is_built_and_read(tmp_path: Path) -> None:
    from tiny_data import write_tiny

    from kd_seg.caches import Work
    from kd_seg.scans import SemanticKitti

    (_, block), _ = blocks("extending.md", "python")
    names: dict[str, Any] = {"__name__": "example"}
    exec(block, names)
    data = SemanticKitti(write_tiny(tmp_path / "data"))
    cache = names["prepare"](data, tmp_path / "cache", Work("kd-seg prepare CONFIG"))
    for key in data.keys():  # noqa: SIM118 - not a mapping
        points = data.scan(*key).points
        assert np.array_equal(cache.view(key, "height"), points[:, 2].astype(np.float16))


def test_objective_of_the_documentation_registers(tmp_path: Path) -> None:
    _, (_, block) = blocks("extending.md", "python")
    done = run_python(block + "\nassert OBJECTIVES.get('confident') is Confident\n", tmp_path)
    assert done.returncode == 0, done.stderr


def test_loss_of_the_documentation_works(tmp_path: Path) -> None:
    """Its files, laid over a copy of the package by links, register; its test passes."""
    loss, objective, check = blocks("how_to/own_loss.md", "python")
    for room in ("losses", "objectives"):
        (tmp_path / "kd_seg" / room).mkdir(parents=True)
        for path in (ROOT / "kd_seg" / room).iterdir():
            (tmp_path / "kd_seg" / room / path.name).symlink_to(path)
    for path in (ROOT / "kd_seg").iterdir():
        if path.name not in {"losses", "objectives"}:
            (tmp_path / "kd_seg" / path.name).symlink_to(path)
    for title, text in (loss, objective):
        (tmp_path / title).write_text(text)
    registered = (
        "\nfrom kd_seg.objectives import OBJECTIVES\nassert OBJECTIVES.get('confident').needs_labels is False\n"
    )
    done = run_python(check[1] + registered, tmp_path, tmp_path)
    assert done.returncode == 0, done.stderr


def test_ten_lines_of_the_readme_run(tiny_root: Path, tmp_path: Path) -> None:
    (code,) = [text for kind, _, text in fences(ROOT / "README.md") if kind == "python"]
    assert len(code.splitlines()) <= 10
    shutil.copy(tiny_root / "sequences" / "00" / "velodyne" / "000000.bin", tmp_path / "scan.bin")
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    counted = [int(line.split()[1].replace(",", "")) for line in done.stdout.splitlines()]
    assert sum(counted) == (tmp_path / "scan.bin").stat().st_size // 16


def test_data_set_of_the_documentation_is_read(tmp_path: Path) -> None:
    from kd_seg.scans import SemanticKitti

    ((_, code),) = blocks("how_to/own_data.md", "python")
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    data = SemanticKitti(tmp_path / "datasets" / "mine")
    assert len(data) == 3
    assert data[2].points.shape == (1000, 4)
    assert set(data[2].labels) == {40}


def test_class_table_of_the_documentation_is_valid(tmp_path: Path) -> None:
    from kd_seg.classes import load_classes

    (block,) = [text for _, text in blocks("how_to/own_data.md", "yaml")]
    (tmp_path / "mine.yaml").write_text(block)
    assert load_classes(str(tmp_path / "mine.yaml")).names == ("car", "road")


def test_measures_count_what_they_say() -> None:
    import ast

    code = "def f(a: int, *rest: str, b) -> None:\n    pass\n\n\n@g\ndef h(self, x: int) -> int:\n    return x\n"
    first, second = measures.functions(ast.parse(code))
    assert (measures.typed(first), measures.typed(second)) == (False, True)
    assert (measures.length(first), measures.length(second)) == (2, 3)
    assert measures.percentile([5, 1, 2, 3, 4, 6, 7, 8, 9, 10], 0.9) == 9
    assert not measures.Bar("x", 0.5, 0.6, at_least=True).met
    assert measures.Bar("x", 61, 60).row() == "| x | 61 | <= 60 | NO |"
