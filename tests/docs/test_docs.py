"""The documents say what the program has: configuration keys, commands, links, the example of an objective."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gen_config import TARGET, page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_configuration_page_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python docs/gen_config.py"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_readme_names_every_command_and_config() -> None:
    from kd_seg.cli.main import app

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f"kd-seg {command.name}" in text, command.name
    for name in re.findall(r"configs/[\w/]+\.yaml", text):
        assert (ROOT / name).is_file(), name


def test_every_config_that_is_named_anywhere_exists() -> None:
    sources = [*(ROOT / "kd_seg").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml"), *PAGES]
    named = {name for path in sources for name in re.findall(r"configs/[\w/]+\.yaml", path.read_text(encoding="utf-8"))}
    patterns = {"configs/classes/NAME.yaml", "configs/sweeps/NAME.yaml"}
    assert [name for name in sorted(named - patterns) if not (ROOT / name).is_file()] == []


def test_sweep_of_the_documentation_is_valid() -> None:
    from kd_seg.core.config import validate
    from kd_seg.sweeps import Sweep

    text = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert validate(Sweep, yaml.safe_load(block), "docs/sweeps.md").baseline == "supervised"


def test_every_shipped_config_is_valid() -> None:
    from kd_seg.adaptation.settings import AdaptSettings
    from kd_seg.core.config import read_yaml, validate
    from kd_seg.sweeps import read_sweep
    from kd_seg.training import read_training_config

    adaptation = ROOT / "configs" / "adapt.yaml"
    assert validate(AdaptSettings, read_yaml(adaptation), str(adaptation)).purpose
    for path in sorted(set((ROOT / "configs").glob("*.yaml")) - {adaptation}):
        assert read_training_config(path, []).purpose, f"{path} has no purpose"
    for path in sorted((ROOT / "configs" / "sweeps").glob("*.yaml")):
        assert read_sweep(path).purpose


def test_objective_of_the_documentation_registers(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "example.py").write_text(block + "\nassert OBJECTIVES.get('confident') is Confident\n")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
