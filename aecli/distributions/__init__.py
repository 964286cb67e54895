"""p(x | ...) and its kin."""
