"""What a trained model is held against: plain methods that need no training loop, fitted to the train split."""
