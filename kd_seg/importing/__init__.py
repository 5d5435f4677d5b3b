"""Published networks: weight files of other projects, read safely, as checkpoints of this one."""

from kd_seg.importing.convert import Imported, import_file
from kd_seg.importing.families import FAMILIES

__all__ = ["FAMILIES", "Imported", "import_file"]
