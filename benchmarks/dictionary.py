"""How much of a known dictionary a sparse autoencoder finds in activations made from it, beside scikit-learn in the same minutes.

100,000 vectors of 256 numbers, each the sum of 8 of 512 random unit atoms with weights uniform in [0.5, 1.5]. An atom counts as
found if a row of the decoder, brought to the data's units, has a cosine above .9 with it. `python benchmarks/dictionary.py`
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from aecli.config.load import load
from aecli.config.schema import Data
from aecli.data.dataset import open_dataset
from aecli.evaluation.request import EvalRequest
from aecli.runs import trained
from aecli.verbs import evaluate, train

ATOMS, ACTIVE = 512, 8
CONFIG = """\
seed: 0
data: {name: vectors, path: acts.npy, standardize: zscore, batch_size: 1024, validation: 10000}
model: {variant: sparse, units: 1024, penalty: topk, k: 8}
optimizer: {learning_rate: 2e-3, schedule: cosine}
train: {steps: 3000, log_every: 500}
"""


def activations(n: int, d: int) -> tuple[Any, Any]:
    """Vectors [n, d] and the atoms [512, d] that they are made of."""
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((ATOMS, d)).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    x = np.empty((n, d), np.float32)
    for start in range(0, n, 10_000):
        count = min(10_000, n - start)
        chosen = np.argsort(rng.random((count, ATOMS)), axis=1)[:, :ACTIVE]
        weight = rng.uniform(0.5, 1.5, (count, ACTIVE)).astype(np.float32)
        x[start : start + count] = np.einsum("nk,nkd->nd", weight, atoms[chosen])
    return x, atoms


def found(rows: Any, atoms: Any) -> float:
    """The share of the atoms that a row points along, with a cosine above .9."""
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return float((np.abs(rows @ atoms.T).max(axis=0) > 0.9).mean())


def of_scikit_learn(x: Any, held_out: Any, atoms: Any, seconds: float) -> tuple[float, float]:
    """Atoms found and explained variance, by 8 atoms a vector (orthogonal matching pursuit), after so many seconds of fitting."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    learner: Any = MiniBatchDictionaryLearning(
        ATOMS, batch_size=1024, fit_algorithm="cd", transform_algorithm="omp", transform_n_nonzero_coefs=ACTIVE, random_state=0
    )
    begun, rng = time.monotonic(), np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its coordinate descent tells of every vector that did not converge
        while time.monotonic() - begun < seconds:
            learner.partial_fit(x[rng.integers(0, len(x), 1024)])
        made = learner.transform(held_out[:2000]) @ learner.components_
    error = ((made - held_out[:2000]) ** 2).sum()
    return found(learner.components_, atoms), float(1 - error / ((held_out[:2000] - held_out[:2000].mean(0)) ** 2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--forms", action="store_true", help="also hold the fingerprints of csv and safetensors to that of npy")
    asked = parser.parse_args()
    x, atoms = activations(asked.vectors, asked.width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "acts.npy", x)
        (folder / "config.yaml").write_text(CONFIG)
        begun = time.monotonic()
        run = train.start(load(folder / "config.yaml"), [], "dictionary", folder / "runs")
        seconds = time.monotonic() - begun
        numbers = evaluate.evaluate(run, EvalRequest(only=["reconstruction", "sparsity"])).metrics
        model = trained.load(run, "last", print)
        assert model.scaling is not None
        rows = np.asarray(model.state.net.rows[...]) * model.scaling.scale.reshape(1, -1)
        speed = 3000 * 1024 / seconds
        share = numbers["explained_variance"].metric.value
        print(f"aecli: {found(rows, atoms):.1%} of the atoms, explained variance {share:.4f}, {seconds / 60:.1f} min,")
        print(
            f"  {speed:,.0f} vectors/s with all starts, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB"
        )
        if asked.forms:
            from safetensors.numpy import save_file

            save_file({"acts": x}, folder / "acts.safetensors")
            np.savetxt(folder / "acts.csv", x, fmt="%.9g", delimiter=",")
            for form in ("npy", "safetensors", "csv"):
                begun = time.monotonic()
                opened = open_dataset(Data(name="vectors", path=str(folder / f"acts.{form}"), batch_size=1))
                print(f"  {form}: fingerprint {opened.fingerprint[:16]}, {time.monotonic() - begun:.1f} s")
        data = open_dataset(Data(name="vectors", path=str(folder / "acts.npy"), standardize="zscore", batch_size=1))
        assert data.scaling is not None
        fit, test = (rows_.all()[0].reshape(len(rows_), -1) for rows_ in (data.train, data.test))
        share, variance = of_scikit_learn(fit, test, atoms / data.scaling.scale.reshape(1, -1), seconds)
        print(f"scikit-learn's MiniBatchDictionaryLearning in the same minutes: {share:.1%}, explained variance {variance:.4f}")


if __name__ == "__main__":
    main()
