"""One file an evaluator, each asking for an ability that a model may have."""
