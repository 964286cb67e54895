"""Which variants there are, by the names of their files, without a look into them. Imports no jax."""

from __future__ import annotations

import pkgutil

from aecli import models


def variants() -> tuple[str, ...]:
    """The names of all variants, sorted: of the files, none of which is imported, so that a broken one disturbs nobody."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(models.__path__)))
