"""Points to pixels: cameras, projection and visibility."""
