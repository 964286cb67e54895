"""The base of every block of a config: immutable, closed, strict."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Hyperparameters. Hashable, so usable as a static jit argument; an unknown key, a value of another type, NaN and
    infinity are errors. Sequences are tuples."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    def changed(self, *names: str) -> bool:
        """Whether any of these settings differs from its default."""
        fields, values = type(self).model_fields, dict(self)
        return any(values[name] != fields[name].get_default(call_default_factory=True, validated_data=values) for name in names)
