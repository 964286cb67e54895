"""One file per variant; the file name is the name in `model.variant`."""
