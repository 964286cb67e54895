"""Plain networks that know no variant: they get ints and tuples, and compute in the type of their parameters."""
