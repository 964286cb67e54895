"""Trains the classifiers that come with the package and tells their checksums:
`python -m aecli.evaluation.judges.make_weights`."""

from __future__ import annotations

from pathlib import Path

from aecli.config.schema import Data
from aecli.data.dataset import open_dataset
from aecli.evaluation.judges import classifier
from aecli.system.arrays import write_arrays
from aecli.system.files import sha256_file
from aecli.system.progress import say


def main() -> None:
    for name in ("fashion_mnist", "digits"):
        dataset = open_dataset(Data(name=name, validation=0), say)
        params = classifier.train(dataset)
        accuracy = classifier.accuracy(params, dataset.test)
        path = Path(__file__).parent / "weights" / f"{name}.npz"
        write_arrays(path, classifier.pack(params, accuracy))
        say(f'    "{dataset.fingerprint}": ("{path.name}", "{sha256_file(path)}"),  # accuracy {accuracy:.4f}')


if __name__ == "__main__":
    main()
