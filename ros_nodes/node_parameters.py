"""The node's parameters: declared, validated, read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter as RosParameter

from kd_seg.core.errors import ConfigError
from kd_seg.serving.labeller import filter_ids
from kd_seg.serving.parameters import BY_NAME, PARAMETERS, cloud_settings
from ros_nodes import compat
from ros_nodes.descriptors import descriptor
from ros_nodes.worker import FrameSettings


class NodeParameters:
    """Declares all parameters on a node and refuses wrong changes.

    Args:
        class_names: names of the loaded checkpoint's classes, None while there is none.

    Raises ConfigError, or what rclpy raises, where a value given from outside is of the wrong type or out of range.
    """

    def __init__(self, node: LifecycleNode, class_names: Callable[[], Sequence[str] | None]) -> None:
        self._node = node
        self._class_names = class_names
        for parameter in PARAMETERS:
            value = node.declare_parameter(parameter.name, parameter.default, descriptor(parameter)).value
            problem = parameter.problem(value)
            if problem is not None:
                raise ConfigError(problem)
        known = (*BY_NAME, "use_sim_time", "start_type_description_service")
        unknown = [n for n in compat.overrides_of(node) if n not in known and not n.startswith("qos_overrides.")]
        if unknown:
            node.get_logger().warning(f"unknown parameters are ignored: {', '.join(sorted(unknown))}")
        node.add_on_set_parameters_callback(self._check)

    def values(self) -> dict[str, Any]:
        """All values by name."""
        return {parameter.name: self._node.get_parameter(parameter.name).value for parameter in PARAMETERS}

    def frame_settings(self) -> FrameSettings:
        """What the next frame needs."""
        values = self.values()
        return FrameSettings(cloud_settings(values), float(values["max_processing_ms"]))

    def _check(self, parameters: list[RosParameter]) -> SetParametersResult:
        """Accept or refuse a change; no side effect, because another callback may still refuse it."""
        for given in parameters:
            problem = self._problem(given)
            if problem is not None:
                return SetParametersResult(successful=False, reason=problem)
        return SetParametersResult(successful=True)

    def _problem(self, given: RosParameter) -> str | None:
        parameter = BY_NAME.get(given.name)
        if parameter is None:
            return None
        if not parameter.dynamic and compat.state_of(self._node) != "unconfigured":
            return f"{given.name}: set while unconfigured"
        problem = parameter.problem(given.value)
        names = self._class_names()
        if problem is None and given.name == "filter.classes" and names is not None:
            try:
                filter_ids(given.value, names)
            except ConfigError as error:
                return str(error)
        return problem
