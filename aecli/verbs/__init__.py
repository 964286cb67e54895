"""One file a verb, without a terminal: what the command line, a notebook or a test calls."""
