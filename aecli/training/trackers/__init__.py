"""One file a tracker: its module is imported where a config asks for it, and its package with it."""
