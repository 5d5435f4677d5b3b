"""How the node's parameters are told to ROS."""

from __future__ import annotations

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter as RosParameter

from kd_seg.serving.parameters import Parameter

ROS_KINDS = {
    "string": RosParameter.Type.STRING,
    "int": RosParameter.Type.INTEGER,
    "double": RosParameter.Type.DOUBLE,
    "bool": RosParameter.Type.BOOL,
    "strings": RosParameter.Type.STRING_ARRAY,
    "doubles": RosParameter.Type.DOUBLE_ARRAY,
}


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What ROS shows of a parameter: description, legal values and range."""
    answer = ParameterDescriptor(description=parameter.description)
    if parameter.kind == "switch":
        answer.dynamic_typing = True
    else:
        answer.type = ROS_KINDS[parameter.kind].value
    if parameter.choices is not None:
        answer.additional_constraints = f"one of {parameter.choices.replace('|', ', ')}"
    if parameter.lower is not None and parameter.upper is not None:
        if parameter.kind == "int":
            span = IntegerRange(from_value=int(parameter.lower), to_value=int(parameter.upper), step=1)
            answer.integer_range = [span]
        else:
            answer.floating_point_range = [FloatingPointRange(from_value=parameter.lower, to_value=parameter.upper)]
    return answer
