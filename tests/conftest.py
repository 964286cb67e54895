"""Shared by all tests: four virtual devices, strict broadcasting, a data folder of their own. XLA optimizes little
(`process.QUICK`): these programs are compiled often and run once."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

# Before numpy is imported, and inherited by the processes that tests start: where workers share cores, threads of OpenBLAS wait
# for each other by spinning, and eigenvectors of a 784 x 784 matrix took up to a hundred times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from process import QUICK

os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=4 {QUICK}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from cases import CASES

from aecli.cli.app import FEW_COLLECTIONS
from aecli.config import variants
from aecli.data.sources import fashion

jax.config.update("jax_numpy_rank_promotion", "raise")
gc.set_threshold(*FEW_COLLECTIONS)  # as the program has it

needs_fashion = pytest.mark.skipif(
    not fashion.has_files(fashion.DEBIAN), reason="needs Debian's package dataset-fashion-mnist (apt-get install it)"
)


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that no other test session and no user shares, and all workers of this one do: to prepare Fashion-MNIST takes as
    long as many tests. AECLI_TEST_DATA_DIR keeps it between sessions."""
    base = tmp_path_factory.getbasetemp()
    ours = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = Path(os.environ.get("AECLI_TEST_DATA_DIR") or ours / "data")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["AECLI_DATA_DIR"] = str(folder)
    return folder


MOST_MAPS = 20_000
"""Linux gives a process 65,530 memory maps, and every compiled program has several. A process that has none left dies in the
compiler, of a segmentation fault."""


@pytest.fixture(scope="module", autouse=True)
def few_maps() -> Generator[None]:
    """Forgets what was compiled, where it is much."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


LONG = (
    "test_configs",
    "test_sweep",
    "test_slurm",
    "test_kill",
    "test_damage",
    "test_cli",
    "test_power_cut",
    "test_compile_cache",
    "test_classifier",
    "test_baselines",
    "test_bench",
    "test_modes",
    "test_gan",
    "test_autoregressive",
    "test_nets",
    "test_hidden",
    "test_inception",
)
"""Files that take longest, in this order: begun first, so that no worker ends with one of them while the other is idle."""
NOT_QUICK = {
    *LONG,
    *(
        "test_resume",
        "test_steps",
        "test_data",
        "test_folder",
        "test_arrays",
        "test_archive",
        "test_evaluators",
        "test_train",
        "test_bounds",
        "test_quantizers",
        "test_latents",
        "test_decoded",
        "test_degenerate",
        "test_fingerprint",
        "test_fuzz",
        "test_leaks",
        "test_npy",
        "test_shapes",
        "test_strangers",
        "test_terminal",
        "test_tfds",
        "test_vectors",
        "test_watch",
    ),
}
"""Files left out of `make quick`, which has two minutes: what remains trains, resumes, evaluates and samples too
(`test_conformance`, `test_old_runs`, `test_evaluator_contract`), in fewer ways."""
CASE_FILES = ("test_conformance", "test_resume", "test_steps")
CASE_NAMES = {case.name for case in CASES}
"""Of these cases, `make quick` takes the defaults of each variant."""


def case_of(nodeid: str) -> str | None:
    """The name of the case that a test is about: the id of its one parameter, in the files of cases."""
    file, _, test = nodeid.rpartition("/")[2].partition(".py::")
    name = test.partition("[")[2].removesuffix("]")
    return name if file in CASE_FILES and name in CASE_NAMES else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        case = case_of(item.nodeid)
        if item.path.stem not in NOT_QUICK and (case is None or case in variants.variants()):
            item.add_marker(pytest.mark.quick)
    rank = {name: i for i, name in enumerate((*LONG, *CASE_FILES))}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file go to one worker, which shares what the file's fixtures make; those of a case, whatever their file, to
    one that shares what was compiled for it (`compiled.py`). Marks of xdist, which would say so too, are lost with pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return case_of(nodeid) or nodeid.partition("::")[0]

    return Together(config, log) if config.getvalue("dist") == "loadscope" else None
