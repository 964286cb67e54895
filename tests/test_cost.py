"""What a run costs: the operations of a step, its seconds, and the threads that it computes on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from process import aecli, environment

from aecli.config.load import load, parse
from aecli.core.flop import products
from aecli.errors import UsageError
from aecli.runs import commits
from aecli.runs.directory import Run
from aecli.system import threads
from aecli.verbs import train

ROOT = Path(__file__).parent.parent
CONVOLUTIONS = {
    "plain": {"padding": "SAME"},
    "valid": {"padding": "VALID"},
    "strided": {"padding": "SAME", "window_strides": (2, 3)},
    "uneven": {"padding": ((2, 0), (0, 3))},
    "transposed": {"padding": ((2, 1), (1, 2)), "lhs_dilation": (2, 3)},
    "dilated": {"padding": "SAME", "rhs_dilation": (2, 1)},
    "grouped": {"padding": "SAME", "feature_group_count": 2},
}


def counted(function: Any, *arguments: jax.Array) -> float:
    return products(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_count_as_xla_counts_them(name: str) -> None:
    about: dict[str, Any] = {"window_strides": (1, 1), "dimension_numbers": ("NHWC", "HWIO", "NHWC"), **CONVOLUTIONS[name]}
    images, kernel = jnp.ones((3, 9, 8, 4)), jnp.ones((3, 2, 4 // about.get("feature_group_count", 1), 6))

    def convolve(x: jax.Array, k: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, k, **about)

    assert counted(convolve, images, kernel) == jax.jit(convolve).lower(images, kernel).cost_analysis()["flops"]


def test_products_and_their_gradients_count_as_xla_counts_them() -> None:
    x, w = jnp.ones((7, 5)), jnp.ones((2, 5, 3))

    def product(w: jax.Array) -> jax.Array:
        return jnp.einsum("bi,gio->gbo", x, w)

    assert counted(product, w) == 2 * 7 * 5 * 2 * 3 == jax.jit(product).lower(w).cost_analysis()["flops"]
    backward = jax.grad(lambda w: (product(w) ** 2).sum())
    assert counted(backward, w) == 2 * counted(product, w)  # nobody asked for the gradient of x


def test_a_scan_counts_as_often_as_it_runs_and_of_branches_the_largest() -> None:
    w = jnp.ones((4, 4))
    scanned = counted(lambda w: jax.lax.scan(lambda x, _: (x @ w, None), w, length=6)[0], w)
    assert scanned == 6 * 2 * 4**3
    branched = counted(lambda w: jax.lax.cond(w.sum() > 0, lambda: w @ w, lambda: w @ w @ w), w)
    assert branched == 2 * 2 * 4**3


def test_a_step_of_a_dense_network_costs_six_operations_a_weight_and_image(tmp_path: Path) -> None:
    """Two forward, two for the gradient of the weights and two for that of the input, which the first layer has none of."""
    text = """
seed: 0
data: {name: digits, batch_size: 32}
model: {variant: bottleneck, net: mlp, hidden: [24], latent: 5}
train: {steps: 4}
"""
    run = train.start(parse(text, "dense.yaml"), [], "dense", tmp_path)
    weights = [(64, 24), (24, 5), (5, 24), (24, 64)]
    assert run.recorded().flop_per_step == 32 * (sum(6 * a * b for a, b in weights) - 2 * 64 * 24)


def test_seconds_are_those_of_all_sittings(tmp_path: Path) -> None:
    config = ROOT / "configs" / "quickstart.yaml"
    run = train.start(load(config, ["train.steps=40"]), [], "short", tmp_path)
    first = run.recorded()
    train.resume(run, ["train.steps=80"])
    second = run.recorded()
    assert first.seconds is not None and second.seconds is not None and first.peak_bytes is not None
    assert 0 < first.seconds < second.seconds and second.flop_per_step == first.flop_per_step
    newest = json.loads((run.checkpoints / "80.commit.json").read_text())
    assert round(newest["extra"]["progressed"]["seconds"], 3) == second.seconds


def test_seconds_of_a_run_that_an_older_version_began_are_not_known(tmp_path: Path) -> None:
    run = train.start(load(ROOT / "configs" / "quickstart.yaml", ["train.steps=20"]), [], "older", tmp_path)
    commit = commits.read(run.checkpoints, 20).as_json()
    del commit["extra"]["progressed"]["seconds"]
    commits.write(run.checkpoints, 20, commit)
    state = run.recorded().as_json()
    del state["seconds"]
    (run.path / "state.json").write_text(json.dumps(state))
    train.resume(run, ["train.steps=40"])
    assert run.recorded().step == 40 and "seconds" not in run.recorded().as_json()


def arrays_of(run: Run) -> list[str]:
    newest = max(run.checkpoints.glob("*.commit.json"), key=lambda path: int(path.name.split(".")[0]))
    return [leaf["sha256"] for leaf in json.loads(newest.read_text())["leaves"]]


@contextlib.contextmanager
def allowed(cores: int) -> Generator[None]:
    """Processes that are started inside may use so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif(threads.available() < 2, reason="on one core there is one order of sums")
def test_the_threads_of_a_run_decide_its_bits_and_not_the_cores_of_the_machine(tmp_path: Path) -> None:
    """A model whose products are added in another order by two threads than by one."""
    given = ["train", ROOT / "configs" / "autoregressive_digits.yaml", "--set", "train.steps=3", "--set", "train.epochs=null"]
    found: dict[str, Run] = {}
    for name, more, cores in (
        ("one", ["--set", "train.threads=1"], 2),
        ("one core", [], 1),
        ("two", ["--set", "train.threads=2"], 2),
        ("two on one core", ["--set", "train.threads=2"], 1),
    ):
        with allowed(cores):
            done = aecli(*given, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found[name] = Run(tmp_path / "runs" / done.stdout.strip())
    assert arrays_of(found["one"]) == arrays_of(found["one core"])
    assert arrays_of(found["two"]) == arrays_of(found["two on one core"])
    assert arrays_of(found["one"]) != arrays_of(found["two"])
    assert [run.info().threads for run in found.values()] == [1, 1, 2, 2]


def test_what_the_environment_says_of_threads_stays_for_processes_that_are_started() -> None:
    code = "import os; from aecli.system import threads; print(threads.use(1), os.environ.get('NPROC'))"
    for given, left in (({"NPROC": "2"}, "2"), ({}, "None")):
        env = {name: value for name, value in environment().items() if name != "NPROC"} | given
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["1", left]


def test_a_process_computes_on_one_number_of_threads() -> None:
    running = threads.use(None)
    assert threads.use(running) == running
    with pytest.raises(UsageError, match="computes on"):
        threads.use(running + 1)
