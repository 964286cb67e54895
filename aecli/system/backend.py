"""What JAX is told before it takes a GPU, and how exactly it multiplies on one: a setting that the user has made is kept, and
where there is no GPU nothing is set."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

SHARES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
"""The variable, and its name before, that says how much of a GPU's memory a process may have."""
_MEMORY = (*SHARES, "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_ALLOCATOR")
"""Variables by which a user says how JAX takes that memory."""
_DETERMINISTIC = "xla_gpu_deterministic_ops"
_PRODUCTS = "jax_default_matmul_precision"


def has_started() -> bool:
    """Whether JAX has made its devices; it tells nobody but itself."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(getattr(bridge, "backends_are_initialized", lambda: False)())


def gpus(environment: Mapping[str, str] = os.environ, system: Path = Path("/")) -> list[str]:
    """The CUDA devices that JAX would take, without asking it, which would take their memory."""
    if environment.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("", "cuda", "gpu"):
        return []
    if (given := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        # CUDA takes the names before the first that is none, as -1 is, which hides them all.
        names = [name.strip() for name in given.split(",")]
        return list(itertools.takewhile(lambda name: name and not name.startswith("-"), names))
    listed = len(list((system / "proc/driver/nvidia/gpus").glob("*")))
    return [str(index) for index in range(listed or len(list((system / "dev").glob("nvidia[0-9]*"))))]


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What a process that computes on a GPU adds to its environment: memory is taken as it is needed, not three quarters of the
    GPU at once, and programs give the same bits each time, for which a resumed run goes on as if it had not been disturbed."""
    added: dict[str, str] = {}
    if not any(name in environment for name in _MEMORY):
        added["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    flags = environment.get("XLA_FLAGS", "")
    if _DETERMINISTIC not in flags:
        added["XLA_FLAGS"] = f"{flags} --{_DETERMINISTIC}=true".strip()
    return added


def prepare() -> None:
    """Sets them, if JAX has not started and would take a GPU."""
    if not has_started() and gpus():
        os.environ |= settings(os.environ)


def multiply_exactly(platform: str) -> None:
    """Lets products of float32 be products of float32 on an accelerator, where JAX rounds their factors to 10 bits (GPU) or 7
    (TPU) unless it is told otherwise."""
    import jax

    if platform != "cpu" and getattr(jax.config, _PRODUCTS) is None:
        jax.config.update(_PRODUCTS, "highest")
