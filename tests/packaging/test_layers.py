"""No cycle among the modules of any room, those between a package and its own modules included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def cycle(imports: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Modules that import each other in a circle, the first one again at the end; None where there is no circle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as found:
        return list(found.args[1])
    return None


def test_a_cycle_is_found() -> None:
    assert cycle({"a": ["b"], "b": ["c"], "c": []}) is None
    found = cycle({"a": ["b"], "b": ["c"], "c": ["a"], "d": []})
    assert found is not None
    assert set(found) == {"a", "b", "c"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """What each module imports, within functions too; what is imported for types alone is left out."""
    return grimp.build_graph("kd_seg", "ros_nodes", exclude_type_checking_imports=True, cache_dir=None)


def test_no_room_has_a_cycle(graph: grimp.ImportGraph) -> None:
    rooms: dict[str, dict[str, list[str]]] = {}
    for module in graph.modules - {"kd_seg"}:  # its public names are imported at first use
        names = module.split(".")
        room = names[0] if names[0] == "ros_nodes" else ".".join(names[:2])
        rooms.setdefault(room, {})[module] = sorted(graph.find_modules_directly_imported_by(module))
    assert {"kd_seg.streets", "kd_seg.training", "ros_nodes"} <= set(rooms)
    for room, modules in rooms.items():
        inside = {module: [name for name in names if name in modules] for module, names in modules.items()}
        assert cycle(inside) is None, room
