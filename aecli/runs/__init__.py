"""What is on the disk, and how a model comes back from it."""
