"""One table per project whose files can be imported."""

from kd_seg.importing.families import cylinder3d, minkunets, two_d_pass
from kd_seg.importing.table import Family

FAMILIES: dict[str, Family] = {
    family.name: family for family in (*minkunets.FAMILIES, two_d_pass.FAMILY, *cylinder3d.FAMILIES)
}
"""Family by the name that ``kd-seg import --as`` takes."""
