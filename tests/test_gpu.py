"""What can be held without a GPU: what JAX is told before it takes one, what is made for it, and what a full one says."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, named
from fit import dataset, experiment
from process import SOAK

from aecli.config import variants
from aecli.core.model import Batch
from aecli.errors import DeviceError, translate
from aecli.nets.conv import convolve, convolve_transposed
from aecli.runs.state import init
from aecli.sweeps import local
from aecli.system import backend, compiler_options
from aecli.system.placement import local_devices, placement
from aecli.verbs.bench import matmul_rate

pytestmark = pytest.mark.portable
DATA = dataset()
LOWERED = [case for case in CASES if SOAK or case.name in variants.variants()]
"""Outside of AECLI_SOAK the defaults of each variant alone."""


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the program can tell while it is traced."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def lowered(text: str, train: str = "steps: 6") -> str:
    """The training step of a model as it is handed to the compiler of a GPU."""
    e, key = experiment(text, train), jax.random.key(0)
    state = jax.eval_shape(lambda: e.model.init(key, DATA.spec, e.recipe(48)))
    step = jax.jit(lambda *given: e.model.train_step(*given)).trace(state, Batch.abstract(16, DATA.spec), key)
    return step.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("case", named(LOWERED))
def test_the_step_of_every_variant_is_made_for_a_gpu(case: str, on_a_gpu: None) -> None:
    """Of convolutions as such where there are any, and of nothing that has no deterministic form there."""
    text = lowered(case)
    assert "stablehlo.dot_general" in text or "stablehlo.convolution" in text
    assert "select_and_scatter" not in text and "custom_call" not in text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("variant: bottleneck, net: conv, hidden: [4, 6], latent: 3", 11),
        ("variant: vae, net: mlp, hidden: [12], latent: 3", 0),
    ],
)
def test_a_gpu_convolves_where_a_cpu_multiplies_windows(text: str, count: int, on_a_gpu: None) -> None:
    """Two down and two up, each forward and to the kernel, and to what it was given but for the image."""
    assert lowered(text).count("stablehlo.convolution") == count


def test_a_cpu_multiplies_windows() -> None:
    assert "stablehlo.convolution" not in lowered("variant: bottleneck, net: conv, hidden: [4, 6], latent: 3")


@pytest.mark.parametrize("transposed", [False, True])
def test_both_ways_to_convolve_give_equal_values_and_gradients(transposed: bool) -> None:
    function, size = (convolve_transposed, 4) if transposed else (convolve, 3)
    key = jax.random.key(0)
    x = jax.random.normal(key, (2, 6, 5, 8))
    kernel = jax.random.normal(jax.random.fold_in(key, 1), (size, size, 8, 4)) / size**2

    def all_of(as_matmul: bool) -> tuple[jax.Array, ...]:
        def scalar(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return jnp.sin(function(x, kernel, 2, 1, as_matmul=as_matmul)).mean()

        return function(x, kernel, 2, 1, as_matmul=as_matmul), *jax.grad(scalar, (0, 1))(x, kernel)

    for ours, xlas in zip(jax.jit(all_of, static_argnums=0)(True), jax.jit(all_of, static_argnums=0)(False), strict=True):
        assert ours.shape == xlas.shape and np.allclose(ours, xlas, rtol=1e-5, atol=1e-5)


def test_a_model_has_the_same_weights_on_either_device(on_a_gpu: None) -> None:
    """A checkpoint of one is one of the other."""
    e = experiment("variant: vae, net: conv, hidden: [4, 6], latent: 3")
    there = init(e, DATA.spec, 48, placement(16))
    with pytest.MonkeyPatch.context() as here:
        here.setattr(jax, "default_backend", lambda: "cpu")
        for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(init(e, DATA.spec, 48, placement(16))), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype and np.allclose(a, b)


@pytest.mark.parametrize(
    ("precision", "written"),
    [
        ("float32", r"precision HIGHEST>|HIGHEST, HIGHEST\]"),
        ("tf32", r"precision HIGH>|HIGH, HIGH\]"),
        ("bfloat16", r"xbf16>"),
    ],
    ids=["float32", "tf32", "bfloat16"],
)
def test_products_are_as_exact_as_the_precision_says(precision: str, written: str, on_a_gpu: None) -> None:
    """By what `multiply_exactly` sets on a GPU, which here holds for this trace alone."""
    with jax.default_matmul_precision("highest"):
        text = lowered("variant: vae, net: conv, hidden: [4, 6], latent: 3", f"steps: 6, precision: {precision}")
    lines = [line for line in text.splitlines() if "stablehlo.dot_general" in line or "stablehlo.convolution" in line]
    assert len(lines) > 11 and all(re.search(written, line) for line in lines)


def test_float32_is_float32_on_an_accelerator_unless_the_user_says_otherwise() -> None:
    assert jax.config.jax_default_matmul_precision is None
    try:
        backend.multiply_exactly("cpu")
        assert jax.config.jax_default_matmul_precision is None, "a CPU does, and its programs stay what they were"
        backend.multiply_exactly("gpu")
        assert jax.config.jax_default_matmul_precision == "highest"
        jax.config.update("jax_default_matmul_precision", "tensorfloat32")
        backend.multiply_exactly("gpu")
        assert jax.config.jax_default_matmul_precision == "tensorfloat32"
    finally:
        jax.config.update("jax_default_matmul_precision", None)


def test_devices_are_told_so_before_and_after_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(backend, "prepare", lambda: told.append("prepare"))
    monkeypatch.setattr(jax, "local_devices", lambda: told.append("start") or [SimpleNamespace(platform="gpu")])
    monkeypatch.setattr(backend, "multiply_exactly", told.append)
    assert local_devices()[0].platform == "gpu"
    assert told == ["prepare", "start", "gpu"]


def test_a_gpu_is_seen_without_being_taken(tmp_path: Path) -> None:
    assert backend.gpus({}, tmp_path) == []
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert backend.gpus({}, tmp_path) == ["0", "1"], "in a container the driver's list may be hidden"
    (tmp_path / "proc/driver/nvidia/gpus/0000:19:00.0").mkdir(parents=True)
    assert backend.gpus({}, tmp_path) == ["0"]
    assert backend.gpus({"JAX_PLATFORMS": "cpu"}, tmp_path) == []
    assert backend.gpus({"JAX_PLATFORMS": "cuda,cpu"}, tmp_path) == ["0"]
    assert backend.gpus({"CUDA_VISIBLE_DEVICES": "3, 5"}, tmp_path) == ["3", "5"]
    assert backend.gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert backend.gpus({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == [], "how they are hidden from a program"
    assert backend.gpus({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, tmp_path) == ["1"]


def test_what_a_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = backend.settings({})
    assert plain == {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}
    assert backend.settings(plain) == {}
    for name in (*backend.SHARES, "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_ALLOCATOR"):
        assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in backend.settings({name: "0.5"})
    assert "XLA_FLAGS" not in backend.settings({"XLA_FLAGS": "--xla_gpu_deterministic_ops=false"})
    assert backend.settings({"XLA_FLAGS": "--a=1"})["XLA_FLAGS"] == "--a=1 --xla_gpu_deterministic_ops=true"


@pytest.mark.parametrize(("gpus", "started", "told"), [(["0"], False, True), (["0"], True, False), ([], False, False)])
def test_nothing_is_set_without_a_gpu_or_when_it_is_too_late(
    gpus: list[str], started: bool, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "gpus", lambda: gpus)
    monkeypatch.setattr(backend, "has_started", lambda: started)
    monkeypatch.setattr(backend.os, "environ", {})
    backend.prepare()
    assert backend.os.environ == (backend.settings({}) if told else {})


def test_workers_share_the_gpus_and_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    for name in backend.SHARES:
        monkeypatch.delenv(name, raising=False)
    assert local.environments(2) == [{"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    assert local.environments(3)[2] == {"CUDA_VISIBLE_DEVICES": "2", "XLA_CLIENT_MEM_FRACTION": "0.450"}
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2")  # JAX refuses both at once
    assert local.environments(3)[2] == {"CUDA_VISIBLE_DEVICES": "2"}
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert local.environments(3) == []


def test_options_for_a_cpu_are_given_to_a_cpu_alone(on_a_gpu: None) -> None:
    option = {"xla_backend_optimization_level": 1}
    compiler_options.cpu_options.cache_clear()
    try:
        assert compiler_options.cpu_options(**option) == {}
    finally:
        compiler_options.cpu_options.cache_clear()


@pytest.mark.parametrize(
    "text",
    [
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes.",
        "INTERNAL: Failed call to cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above for more details.",
    ],
)
def test_a_gpu_without_memory_is_told_with_what_helps(text: str) -> None:
    told = translate(jax.errors.JaxRuntimeError(text))
    assert isinstance(told, DeviceError) and told.code == 8
    assert told.message == f"out of memory: {text}" and told.help is not None
    assert all(words in told.help for words in ("data.batch_size", "nvidia-smi", "XLA_CLIENT_MEM_FRACTION"))
    other = translate(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"))
    assert other is not None and other.help is not None and "nvidia-smi" not in other.help


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_the_rate_of_products_is_measured_in_every_precision(precision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aecli.verbs.bench.MATMUL_SIDES", (64, 128))
    monkeypatch.setattr("aecli.verbs.bench.MATMUL_SECONDS", 0.01)
    assert matmul_rate(precision) > 1e6
