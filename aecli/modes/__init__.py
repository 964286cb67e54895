"""Ways to show what a trained model knows, by family: draws, restored images, walks through the code."""
