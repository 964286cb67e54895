"""One piece of what is to be tried out on a GPU, and its part of RESULTS-GPU.md; `gpu.sh` starts it, and says how.

A piece is a list of items. What an item found is kept as soon as it is there, in `<to>/gpu/PIECE.json`: a piece that is started
again does what is left, and what failed. An item that fails is a line of the table, with the last line of its error, and the
next one goes on; what there was no time for is a line, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import compare
import evaluation
import start
from results import Failed, absent, answer, head, left, put, spread, table

if TYPE_CHECKING:
    from aecli.core.model import Model

ROOT = Path(__file__).parent.parent
AECLI = [sys.executable, "-m", "aecli"]
NO_TIME = "not yet: no time was left"
LEAST_SECONDS = 10.0
"""With less left no item is begun."""
Rows = list[list[str]]


class Asked(NamedTuple):
    """`tiny`: so small that a CPU does it in a minute. `peers` is an interpreter with torch, if there is one; `folder` has data
    and runs; `seconds` are those that a recipe is trained for."""

    tiny: bool
    peers: str | None
    folder: Path
    seconds: float

    @property
    def env(self) -> dict[str, str]:
        data = os.environ.get("AECLI_DATA_DIR") or str(self.folder / "data")
        return {"AECLI_DATA_DIR": data, "AECLI_RUNS_DIR": str(self.folder / "runs")}


class Item(NamedTuple):
    """`find(until)` gives the rows of the table, the first cell of which is the name, before that time of `time.monotonic`, or
    raises Failed."""

    name: str
    find: Callable[[float], Rows]


class Piece(NamedTuple):
    """`items` in the order of their worth; `seconds` for all of them, of which `at_once` run at a time."""

    about: str
    columns: Sequence[str]
    items: Callable[[Asked], list[Item]]
    seconds: float
    at_once: int = 1


def sets(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


# --- machine ---

DEVICES = """
import json
from aecli.system.placement import local_devices
devices = local_devices()
print(json.dumps({"devices": f"{len(devices)} x {devices[0].device_kind}", "stats": devices[0].memory_stats() or {}}))
"""
CARD = ["nvidia-smi", "--query-gpu=name,driver_version,memory.used,memory.total", "--format=csv,noheader"]


def machine(asked: Asked) -> list[Item]:
    def devices(until: float) -> Rows:
        said = json.loads(answer([sys.executable, "-c", DEVICES], {}, until))
        first = head([said], "`float32` is float32, programs are deterministic ones unless a row says otherwise")
        limits = said["stats"].get("bytes_limit")
        rows = [["devices", first]]
        if limits is not None:
            taken = max(said["stats"].get("pool_bytes") or 0, said["stats"].get("bytes_reserved") or 0)
            rows.append(["memory at the start", f"{taken / 2**20:,.0f} MiB taken of {limits / 2**20:,.0f} that it may have"])
        return rows

    def card(until: float) -> Rows:
        try:
            return [["card, driver, memory", answer(CARD, {}, until).strip().replace("\n", "; ")]]
        except OSError:
            raise Failed("no nvidia-smi here") from None

    def torch(until: float) -> Rows:
        if asked.peers is None:
            return [["torch", "cannot be imported: PyTorch's sides are left out"]]
        code = "import torch; print(torch.__version__, torch.cuda.is_available())"
        return [["torch, on CUDA", answer([asked.peers, "-c", code], {}, until).strip()]]

    return [Item("devices", devices), Item("card", card), Item("torch", torch)]


# --- smoke, tests ---


def smoke(asked: Asked) -> list[Item]:
    def checked(path: Path, until: float) -> Rows:
        if absent(path) is not None:
            return [[path.stem, "left out: its images are not here", ""]]
        begun = time.monotonic()
        said = answer([*AECLI, "check", "--smoke", str(path)], asked.env, until)
        return [[path.stem, said.partition("(")[2].strip().rstrip(")"), f"{time.monotonic() - begun:.0f}"]]

    paths = sorted((ROOT / "configs").glob("*.yaml"), key=lambda path: (path.stem != "quickstart", path.stem))
    chosen = [path for path in paths if path.stem in ("quickstart", "denoising_digits")] if asked.tiny else paths
    return [Item(path.stem, partial(checked, path)) for path in chosen]


TESTS = ("test_oracles", "test_nets", "test_steps", "test_conformance", "test_likelihoods", "test_quantizers", "test_resume")
AS_THE_PROGRAM = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
"""What aecli sets for its own process, for tests that call its networks without it: by JAX's default they would multiply in TF32,
and each would take three quarters of the GPU."""
NOT_HERE = "not devices and not four"
"""What asks for several devices, which the suite has on a CPU alone."""


def tests(asked: Asked) -> list[Item]:
    """Those that start no processes, without the plugins that a machine without a network may lack."""

    def run(name: str, until: float) -> Rows:
        platforms = os.environ.get("JAX_PLATFORMS") or ("cpu" if asked.tiny else "cuda,cpu")
        plain = ["-c", os.devnull, "--rootdir", str(ROOT), "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *plain, "-k", NOT_HERE, str(ROOT / "tests" / f"{name}.py")]
        path = f"{ROOT / 'benchmarks'}:{os.environ.get('PYTHONPATH', '')}"
        env = {**asked.env, **AS_THE_PROGRAM, "JAX_PLATFORMS": platforms, "PYTHONPATH": path}
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=left(until), cwd=ROOT)
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        wrong = [line.partition(" - ")[0].rpartition("::")[2] for line in lines if line.startswith(("FAILED", "ERROR"))]
        if not lines or (done.returncode and not wrong):
            raise Failed(f"exit {done.returncode}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1][:300]}")
        return [[name, lines[-1].strip("= "), ", ".join(wrong)]]

    def bounded(name: str, until: float) -> Rows:
        try:
            return run(name, until)
        except subprocess.TimeoutExpired:
            raise Failed("took more than the time that was left") from None

    return [Item(name, partial(bounded, name)) for name in (("test_likelihoods",) if asked.tiny else TESTS)]


# --- exact, start ---

EQUAL = """
import json, sys
from pathlib import Path
import jax
import numpy as np
from aecli.runs.directory import find
from aecli.runs.trained import load
one, other = (load(find(Path(sys.argv[1]), name), "last", print) for name in sys.argv[2:])
pairs = list(zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True))
wrong = [float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()) for a, b in pairs if not np.array_equal(a, b)]
print(json.dumps([one.step, other.step, len(pairs), len(wrong), max(wrong, default=0.0)]))
"""
RUNNING = 0.02
"""Seconds between looks at a run that is to be stopped."""


def stopped(command: Sequence[str], runs: Path, named: str, env: dict[str, str], until: float) -> str:
    """The id of a run, among those of such names, that was ended by SIGTERM after its first checkpoint. Raises Failed if it came
    to its end."""
    before = set(runs.glob(named))
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and time.monotonic() < until:
            if commits := [path for run in set(runs.glob(named)) - before for path in run.glob("checkpoints/*.commit.json")]:
                process.send_signal(signal.SIGTERM)
                try:
                    process.communicate(timeout=left(until))
                except subprocess.TimeoutExpired:
                    raise Failed("was not saved after SIGTERM in the time that was left") from None
                if process.returncode != 128 + signal.SIGTERM:
                    raise Failed(f"exit {process.returncode} after SIGTERM: it may have been at its end already")
                return commits[0].parts[-3]
            time.sleep(RUNNING)
        raise Failed(f"no checkpoint to stop it after: exit {process.poll()}")
    finally:
        process.kill()
        process.communicate()


def exact(asked: Asked) -> list[Item]:
    """A run that was stopped and goes on, beside one that was not."""

    def resumed(config: str, steps: int, until: float) -> Rows:
        few = [f"train.steps={steps}", "train.epochs=null", f"train.checkpoint_every={steps // 8}", f"train.eval_every={10**6}"]
        train = [*AECLI, "train", str(ROOT / "configs" / f"{config}.yaml"), *sets(few)]
        whole = answer(train, asked.env, until).split()[-1]
        runs = Path(asked.env["AECLI_RUNS_DIR"])
        cut = stopped(train, runs, f"{config}-*", asked.env, until)
        answer([*AECLI, "train", "--resume", cut], asked.env, until)
        said = answer([sys.executable, "-c", EQUAL, str(runs), whole, cut], asked.env, until).splitlines()[-1]
        one, other, leaves, wrong, most = json.loads(said)
        told = "equal bits" if not wrong else f"{wrong} of {leaves} arrays differ, by {most:.1e} at most"
        return [[config, f"{one:,} and {other:,}", told]]

    long_enough = {"vae_fashion": 20_000, "bottleneck_conv_fashion": 4_000, "vq_fashion": 4_000}
    chosen = {"quickstart": 2_000} if asked.tiny else long_enough
    return [Item(config, partial(resumed, config, steps)) for config, steps in chosen.items()]


def starts(asked: Asked) -> list[Item]:
    def measured(config: str, until: float) -> Rows:
        with tempfile.TemporaryDirectory() as name:
            path, folder = str(ROOT / "configs" / f"{config}.yaml"), Path(name)
            took = partial(start.seconds, folder=folder, until=until)
            took(start.TRAIN, path)  # prepares the data, and keeps its programs
            second = took(start.TRAIN, path)
            shutil.rmtree(folder / "data" / "programs", ignore_errors=True)
            first = took(start.TRAIN, path)
            return [[config, f"{took(start.IMPORTS):.1f}", f"{first:.1f}", f"{second:.1f}"]]

    chosen = ("quickstart",) if asked.tiny else ("vae_fashion", "bottleneck_conv_fashion", "autoregressive_fashion")
    return [Item(config, partial(measured, config)) for config in chosen]


# --- speed, sampling ---

AUTOTUNED = "--xla_gpu_deterministic_ops=false"
PRODUCTS = "from aecli.nets import conv; conv._on_cpu = lambda: True; from aecli.__main__ import main; main()"
"""aecli with convolutions in the form that it takes on a CPU."""
FIRST = [
    ("conv_ae", "bfloat16", 1024),
    ("conv_ae", "float32", 128),
    ("mlp_vae", "bfloat16", 4096),
    ("conv_ae", "tf32", 4096),
    ("pixelcnn", "bfloat16", 1024),
    ("mlp_vae", "float32", 128),
]
"""What says most, if there is time for no more."""
PRECISIONS, SIZES = ("float32", "tf32", "bfloat16"), (128, 1024, 4096)


def timed(key: str, precision: str, batch: int | None, asked: Asked, until: float) -> Rows:
    work = compare.WORKS[key]
    mode = None if asked.tiny else "reduce-overhead"
    sides = compare.sides_of(key, asked.peers is not None, mode, precision, batch)
    if work.training:
        sides.insert(1, sides[0]._replace(name="aecli, not deterministic", flags=AUTOTUNED))
        if key == "conv_ae":
            command = ["-c", PRODUCTS, *sides[0].arguments[2:]]
            sides.insert(1, sides[0]._replace(name="aecli, convolutions as products", arguments=command))
    elif asked.tiny:
        sides = sides[:1]
    rows, _ = compare.measure(sides, asked.peers, 1, 0.2 if asked.tiny else 3.0, asked.env["AECLI_DATA_DIR"], until)
    more = [precision, str(batch)] if work.training else ["", ""]
    return [[work.title.removesuffix(", training"), *more, *row.cells(work.unit)] for row in rows]


def speed(asked: Asked) -> list[Item]:
    grid = [(key, precision, size) for size in SIZES for key in ("conv_ae", "mlp_vae", "pixelcnn") for precision in PRECISIONS]
    chosen = [("mlp_vae", "float32", 128)] if asked.tiny else list(dict.fromkeys([*FIRST, *grid]))
    return [Item(f"{key}, {precision}, {size}", partial(timed, key, precision, size, asked)) for key, precision, size in chosen]


def sampling(asked: Asked) -> list[Item]:
    chosen = ("importance",) if asked.tiny else ("sampling_pixelcnn", "sampling_transformer", "importance")
    return [Item(key, partial(timed, key, "float32", None, asked)) for key in chosen]


# --- evaluation, recipes ---


def evaluations(asked: Asked) -> list[Item]:
    def measured(config: str, until: float) -> Rows:
        found = evaluation.measure(ROOT / "configs" / f"{config}.yaml", 1, (), until)
        return [[config, evaluator, *map(spread, times)] for evaluator, times in found.items()]

    chosen = ("quickstart",) if asked.tiny else ("vae_fashion", "autoregressive_binary_fashion", "bottleneck_conv_fashion")
    return [Item(config, partial(measured, config)) for config in chosen]


SMALL: dict[str, object] = {"width": 8, "layers": 1, "heads": 2, "latent": 3, "pseudo_inputs": 5, "components": 2}
"""Sizes of networks for a CPU that has no time."""
NUMBERS = ("nll_nats", "bits_per_dim", "mse", "psnr_db (gaussian", "bayes_accuracy")
"""Beginnings of the names of what recipes are for."""
SLOW = "representation,clustering,generation"


def shrunk(model: Model) -> list[str]:
    """Settings with which a recipe is a matter of seconds: digits, and of those that it gives the smallest."""
    small = [f"model.{name}={value}" for name, value in SMALL.items() if name in model.model_fields_set]
    if "hidden" in model.model_fields_set:
        hidden: Any = dict(model)["hidden"]
        small.append(f"model.hidden={[4] * len(hidden) if isinstance(hidden, tuple) else 12}")
    return ["data.name=digits", "data.batch_size=16", "data.validation=100", *small]


def recipe(path: Path, asked: Asked, until: float) -> Rows:
    """Its speed, and what it reaches in the seconds that are asked for, or in all of its steps where those are fewer. The
    schedule ends with them."""
    from aecli.config.load import load

    experiment = load(path).experiment
    model = experiment.model.model_dump()
    small = shrunk(experiment.model) if asked.tiny else []
    bench = [*AECLI, "bench", str(path), "--json", "--seconds", "0.2" if asked.tiny else "3", *sets(small)]
    speed = json.loads(answer(bench, asked.env, until))
    held_out = experiment.data.validation
    whole = experiment.steps(60_000 - (held_out if isinstance(held_out, int) else int(60_000 * (held_out or 0))))
    steps = max(2, min(whole, int(asked.seconds / speed["step_seconds"])))
    cut = [f"train.steps={steps}", "train.epochs=null", f"optimizer.warmup={min(experiment.optimizer.warmup, steps // 20)}"]
    if model.get("kl_warmup"):
        cut.append(f"model.kl_warmup={max(1, model['kl_warmup'] * steps // whole)}")
    begun = time.monotonic()
    run = answer([*AECLI, "train", str(path), *sets([*small, *cut])], asked.env, until).split()[-1]
    spent = time.monotonic() - begun
    reached = answer([*AECLI, "eval", run, "--json", "--all", "--skip", SLOW], asked.env, until)
    found = [f"{name} {one['value']:.4g}" for name, one in json.loads(reached).items() if name.startswith(NUMBERS)]
    return [
        [
            path.stem,
            f"{speed['images_per_s']:,.0f}",
            f"{speed['matmul_share']:.0%}",
            f"{speed['peak_bytes'] / 2**20:,.0f}",
            f"{steps:,} of {whole:,} in {spent:.0f} s; all: {whole * speed['step_seconds'] / 60:.1f} min",
            ", ".join(found),
        ]
    ]


def recipes(asked: Asked) -> list[Item]:
    return [Item(path.stem, partial(recipe, path, asked)) for path in sorted((ROOT / "configs" / "gpu").glob("*.yaml"))]


def one_recipe(path: Path, asked: Asked) -> list[Item]:
    return [Item(path.stem, partial(recipe, path, asked._replace(seconds=asked.seconds if asked.tiny else 330.0)))]


REACHED = ("recipe", "images/s", "share of matrix products", "peak memory, MB", "steps", "reached on test")
WORK = ("work", "precision", "batch", "side", "rate", "aecli is faster by", "")
PIECES = {
    "machine": Piece("What it ran on.", ("what", ""), machine, 40),
    "smoke": Piece("`aecli check --smoke` of every config.", ("config", "done", "s"), smoke, 180, 8),
    "exact": Piece(
        "A run that SIGTERM ended and `--resume` finished, beside one that was left alone.",
        ("config", "steps", "weights"),
        exact,
        120,
        3,
    ),
    "tests": Piece("Tests that start no processes, on one device.", ("file", "result", "failed"), tests, 150, 7),
    "start": Piece(
        "Seconds until the first training call: of imports alone, of a first process, and of a second, which reads what the first"
        " compiled.",
        ("config", "imports, s", "first, s", "second, s"),
        starts,
        90,
    ),
    "speed": Piece(
        "`aecli bench` beside PyTorch, each as fast as it comes: torch.compile with CUDA graphs, the fused Adam, batches gathered"
        " on the GPU. One process each; aecli's rate is a median over calls.",
        WORK,
        speed,
        360,
    ),
    "sampling": Piece("Drawing by what is kept of each layer, and by a whole pass per value.", WORK, sampling, 120),
    "evaluation": Piece(
        "Seconds of each evaluator, on a data set for the first time and again.", evaluation.COLUMNS, evaluations, 120
    ),
    "recipes": Piece(
        "`configs/gpu/`, each trained for a part of its time, with a schedule that ends with it.", REACHED, recipes, 320
    ),
    **{
        f"recipe-{path.stem}": Piece(
            "A recipe in full, or what five and a half minutes allow.", REACHED, partial(one_recipe, path), 480
        )
        for path in sorted((ROOT / "configs" / "gpu").glob("*.yaml"))
    },
}


class Store:
    """What the items of a piece have found, on disk, and its part of the table."""

    def __init__(self, to: Path, name: str) -> None:
        self.path, self.results, self.name = to / "gpu" / f"{name}.json", to / "RESULTS-GPU.md", name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self._lock = threading.Lock()

    def done(self, item: str) -> bool:
        return "rows" in self.found.get(item, {})

    def keep(self, item: str, found: dict[str, Any], items: Sequence[Item]) -> None:
        with self._lock:
            self.found[item] = found
            self.path.write_text(json.dumps(self.found, indent=1) + "\n")
            self.write(items)

    def write(self, items: Sequence[Item]) -> None:
        piece = PIECES[self.name]
        rows: Rows = []
        for item in items:
            found = self.found.get(item.name)
            failed = NO_TIME if found is None else f"failed: {found.get('failed')}"
            lines = found["rows"] if found and "rows" in found else [[item.name, failed]]
            rows += [[*line, *[""] * (len(piece.columns) - len(line))] for line in lines]
        put(self.results, self.name, f"## {self.name}\n\n{piece.about}\n\n{table(piece.columns, rows)}\n")


def do(name: str, asked: Asked, to: Path, seconds: float, again: bool) -> None:
    """What is left of a piece, or all of it again."""
    piece, store = PIECES[name], Store(to, name)
    items = piece.items(asked)
    if again:
        store.found = {}
    until = time.monotonic() + seconds

    def one(item: Item) -> None:
        if store.done(item.name):
            return
        if until - time.monotonic() < LEAST_SECONDS:
            print(f"{name}: {item.name}: {NO_TIME}", flush=True)
            return
        begun = time.monotonic()
        try:
            rows = item.find(until)
            store.keep(item.name, {"rows": rows}, items)
            lines = [" | ".join(row) for row in rows]
        except Exception as error:  # whatever it was, the next item is tried
            told = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            store.keep(item.name, {"failed": told}, items)
            lines = [f"{item.name}: failed: {told}"]
        for line in lines:
            print(f"{name} ({time.monotonic() - begun:.0f} s): {line}", flush=True)

    with ThreadPoolExecutor(2 if asked.tiny and piece.at_once > 1 else piece.at_once) as pool:
        list(pool.map(one, items))
    store.write(items)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("piece", choices=PIECES)
    parser.add_argument("--to", type=Path, required=True, help="the folder of RESULTS-GPU.md")
    parser.add_argument("--tiny", action="store_true", help="so little that a CPU does it in a minute")
    parser.add_argument("--again", action="store_true", help="also what has been done")
    parser.add_argument("--seconds", type=float, help="for the piece; each has its own share of 25 minutes")
    parser.add_argument("--recipe-seconds", type=float, default=20.0, help="that each of `recipes` is trained for")
    parser.add_argument("--peers", help="an interpreter with torch; by default this one, if it has it")
    arguments = parser.parse_args()
    peers = arguments.peers or sys.executable
    has_torch = subprocess.run([peers, "-c", "import torch"], capture_output=True).returncode == 0
    folder = Path(tempfile.gettempdir()) / "aecli-gpu"
    asked = Asked(arguments.tiny, peers if has_torch else None, folder, 0.1 if arguments.tiny else arguments.recipe_seconds)
    do(arguments.piece, asked, arguments.to, arguments.seconds or PIECES[arguments.piece].seconds, arguments.again)


if __name__ == "__main__":
    main()
