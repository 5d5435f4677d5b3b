"""From a sensor's points to classes: the segmenter, its input and output, bags and label files."""
