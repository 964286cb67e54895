"""A trained model for programs that know nothing of aecli: its weights, or what it does, as files."""
