"""Pythae's side: its VAE and its trainer with the networks of `mlp_vae`, on 25,600 images. Prints one JSON line."""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn

DATA = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
BATCH, IMAGES = 128, 25_600


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_var = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        h = torch.relu(self.hidden(x.flatten(1)))
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.out = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.out(torch.relu(self.up(z)))).reshape(-1, 1, 28, 28))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8.0)
    seconds = parser.parse_args().seconds
    logging.disable(logging.INFO)
    with gzip.open(DATA) as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:IMAGES]
    data = torch.tensor(raw.copy()).float() / 255
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    model = VAE(config, encoder=Encoder(), decoder=Decoder())
    with tempfile.TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder, num_epochs=1, learning_rate=1e-3, per_device_train_batch_size=BATCH, optimizer_cls="Adam"
        )
        trainer = BaseTrainer(model, BaseDataset(data, torch.zeros(len(data))), training_config=training)
        trainer.prepare_training()
        rates: list[float] = []
        end = time.monotonic() + seconds
        while len(rates) < 2 or time.monotonic() < end:
            begun = time.perf_counter()
            trainer.train_step(len(rates) + 1)
            rates.append(IMAGES / (time.perf_counter() - begun))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(json.dumps({"images_per_s": median(rates[1:]), "device": device, "version": version("pythae")}))


main()
