"""The contract between a model family and the program that trains, evaluates and samples it."""
