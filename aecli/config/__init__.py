"""From a YAML file to an experiment."""
