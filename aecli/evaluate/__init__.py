"""Measures of a trained model on held-out images: one file an evaluator, each asking for an ability that a model may have."""
