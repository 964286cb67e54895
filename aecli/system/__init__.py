"""What stands between aecli and the machine."""
