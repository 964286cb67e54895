"""Shared by all tests: four virtual devices, strict broadcasting, a data folder of their own. XLA optimizes little: these
programs are compiled often and run once."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from aecli.data.sources import fashion

jax.config.update("jax_numpy_rank_promotion", "raise")

needs_fashion = pytest.mark.skipif(
    not fashion.has_files(fashion.DEBIAN), reason="needs Debian's package dataset-fashion-mnist (apt-get install it)"
)


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that no other test session and no user shares. AECLI_TEST_DATA_DIR keeps it between sessions."""
    folder = Path(os.environ.get("AECLI_TEST_DATA_DIR") or tmp_path_factory.mktemp("data"))
    os.environ["AECLI_DATA_DIR"] = str(folder)
    return folder
