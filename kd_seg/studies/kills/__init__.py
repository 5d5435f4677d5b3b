"""Whether work that was killed at any moment and begun again gives what undisturbed work gives, byte for byte.

Example: nice -n 19 python -m kd_seg.studies.kills --out kills --kills 200
"""
