"""What is drawn from a trained model, and shown."""
