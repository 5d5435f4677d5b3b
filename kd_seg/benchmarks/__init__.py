"""``kd-seg bench``: our speed as a ratio to peers, measured in one run."""
