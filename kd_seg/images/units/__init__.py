"""Knowledge units: claims of image teachers about sets of points."""
