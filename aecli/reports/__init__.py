"""What is read side by side, from run folders alone, without jax."""
