"""What damaged and contradictory files do to every reader: a seeded mutation campaign.

Example: nice -n 19 python -m kd_seg.studies.mutations --out mutations --inputs 1000000
"""
