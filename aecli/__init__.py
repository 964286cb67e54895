"""aecli: train, sample and compare autoencoders and their generative relatives from one YAML file."""

__version__ = "0.1.0"
