"""Weights that come with the package, each with its checksum in `aecli.classifier`."""
