"""Entry point of the node's process.

ROS and the libraries that compute are imported inside ``main``, so that an import that fails is one sentence.
"""

from __future__ import annotations

import sys

from kd_seg.core.imports import import_failure


def main(args: list[str] | None = None) -> int:
    """Run the node. Exit codes: 0 stopped, 1 a library cannot be imported, 2 wrong parameter, 3 autostart failed with
    exit_on_autostart_failure, 130 interrupted before the node was there or for a second time.
    """
    try:
        from ros_nodes.node import SegmentationNode
        from ros_nodes.process import serve
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        failure = import_failure(error)
        if failure is None:
            raise
        print(f"segmentation node: {failure}", file=sys.stderr)
        return failure.exit_code
    return serve(SegmentationNode, args)


if __name__ == "__main__":
    sys.exit(main())
