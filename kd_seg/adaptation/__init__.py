"""Adaptation: from an unlabelled drive, and labelled simulated streets, to a student for one's own sensor."""
