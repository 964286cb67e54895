"""PyTorch's side: the same networks, batches, data and optimizer as the configs of the same names, written as its users do.

  python torch_peer.py {mlp_vae,conv_ae,pixelcnn,importance,sampling} [--seconds 8] [--compile [MODE]] [--precision P] [--batch N]

Prints one JSON line: images_per_s (for `importance` codes per second, for `sampling` by a whole pass per pixel). Training batches
are gathered from a tensor by one index operation, the fastest loop that such scripts use; a GPU is used where there is one, there
with the fused Adam. MODE is one of torch.compile's, `reduce-overhead` the one with CUDA graphs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

DATA = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


class MlpVae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_var = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.up, self.out = nn.Linear(20, 400), nn.Linear(400, 784)

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.hidden(x.flatten(1)))
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        logits = self.out(F.relu(self.up(z)))
        nll = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
        return (nll - 0.5 * torch.sum(1 + log_var - mean**2 - log_var.exp())) / len(x)


class ConvAe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = ((1, 32), (32, 64), (64, 128), (128, 128))
        down = [m for i, o in widths for m in (nn.Conv2d(i, o, 3, 2, 1), nn.ReLU())]
        up = [m for i, o in reversed(widths) for m in (nn.ReLU(), nn.ConvTranspose2d(o, i, 4, 2, 1))]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(512, 16))
        self.decoder = nn.Sequential(nn.Linear(16, 512), nn.Unflatten(1, (128, 2, 2)), *up)

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(self.decoder(self.encoder(x))[:, :, 2:30, 2:30], x)


class Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.vertical = nn.Conv2d(width, 2 * width, (2, 3))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, 2))
        self.across = nn.Conv2d(2 * width, 2 * width, 1, bias=False)
        self.out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, v: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = self.vertical(F.pad(v, (1, 1, 1, 0)))
        b = self.horizontal(F.pad(h, (1, 0, 0, 0))) + self.across(a)
        return v + gate(a), h + self.out(gate(b))


def gate(x: torch.Tensor) -> torch.Tensor:
    value, opened = x.chunk(2, dim=1)
    return torch.tanh(value) * torch.sigmoid(opened)


class PixelCnn(nn.Module):
    def __init__(self, width: int = 32, layers: int = 5) -> None:
        super().__init__()
        self.above, self.left = nn.Conv2d(1, width, (3, 7), bias=False), nn.Conv2d(1, width, (1, 3), bias=False)
        self.first_across = nn.Conv2d(width, width, 1, bias=False)
        self.place = nn.Parameter(torch.randn(2, width, 28, 28) * 0.1)
        self.layers = nn.ModuleList(Gated(width) for _ in range(layers))
        self.head = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.Conv2d(width, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = 2 * x - 1
        v = self.above(F.pad(x, (3, 3, 3, 0))[:, :, :-1]) + self.place[0]
        h = self.left(F.pad(x, (3, 0, 0, 0))[:, :, :, :-1]) + self.first_across(v) + self.place[1]
        for layer in self.layers:
            v, h = layer(v, h)
        return self.head(F.gelu(h))

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        bits = torch.bernoulli(x)
        return F.binary_cross_entropy_with_logits(self(bits), x, reduction="sum") / len(x)


class Published(nn.Module):
    """The decoder and encoder of configs/vae_published_fashion.yaml: gated layers of 300, 40 latents."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((784, 300), (300, 300), (40, 300), (300, 300))
        self.gated = nn.ModuleList(nn.Linear(i, 2 * o) for i, o in sizes)
        self.posterior, self.logits = nn.Linear(300, 80), nn.Linear(300, 784)

    def layer(self, i: int, x: torch.Tensor) -> torch.Tensor:
        value, opened = self.gated[i](x).chunk(2, dim=-1)
        return value * torch.sigmoid(opened)

    @torch.no_grad()
    def bounds(self, x: torch.Tensor, samples: int, chunk: int) -> torch.Tensor:
        x = x.flatten(1)
        mean, log_var = self.posterior(self.layer(1, self.layer(0, x))).chunk(2, dim=-1)
        total = torch.full((len(x),), -torch.inf, device=x.device)
        for _ in range(samples // chunk):
            noise = torch.randn(chunk, *mean.shape, device=x.device)
            z = mean + noise * torch.exp(0.5 * log_var)
            logits = self.logits(self.layer(3, self.layer(2, z)))
            log_p = (x * logits - F.softplus(logits)).sum(-1)
            log_w = log_p + 0.5 * (noise**2 + log_var - z**2).sum(-1)
            total = torch.logaddexp(total, torch.logsumexp(log_w, dim=0))
        return total - np.log(samples)


def images(device: str) -> torch.Tensor:
    with gzip.open(DATA) as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return torch.tensor(raw.copy()).to(device).float() / 255


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def training(model: nn.Module, x: torch.Tensor, arguments: argparse.Namespace) -> float:
    """Images per second: the median over calls of 16 steps, the first of which are left out."""
    batch, device = arguments.batch, x.device.type
    loss_of = torch.compile(model.loss, mode=arguments.compile) if arguments.compile else model.loss
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=device == "cuda")
    rates: list[float] = []
    order, at, settled = torch.randperm(len(x), device=device), 0, 0.0
    while not settled or time.monotonic() < settled + arguments.seconds or len(rates) < 3:
        synchronize(device)
        begun = time.perf_counter()
        for _ in range(16):
            if at + batch > len(x):
                order, at = torch.randperm(len(x), device=device), 0
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=arguments.precision == "bfloat16"):
                loss = loss_of(x[order[at : at + batch]])
            loss.backward()
            optimizer.step()
            at += batch
        synchronize(device)
        spent = time.perf_counter() - begun
        if settled:
            rates.append(16 * batch / spent)
        settled = settled or time.monotonic()
    return median(rates)


def repeated(work: Callable[[], object], amount: float, seconds: float, device: str) -> float:
    work()
    rates: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not rates:
        begun = time.perf_counter()
        work()
        synchronize(device)
        rates.append(amount / (time.perf_counter() - begun))
    return median(rates)


@torch.no_grad()
def draw(model: PixelCnn, n: int, device: str) -> torch.Tensor:
    x = torch.zeros(n, 1, 28, 28, device=device)
    for i in range(28):
        for j in range(28):
            x[:, :, i, j] = torch.bernoulli(torch.sigmoid(model(x)[:, :, i, j]))
    return x


BATCHES = {"mlp_vae": 128, "conv_ae": 128, "pixelcnn": 32, "importance": 256, "sampling": 16}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=BATCHES)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--compile", nargs="?", const="default")
    parser.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], default="float32")
    arguments = parser.parse_args()
    arguments.batch = arguments.batch or BATCHES[arguments.work]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arguments.precision == "tf32"
    models = {"mlp_vae": MlpVae, "conv_ae": ConvAe, "pixelcnn": PixelCnn, "importance": Published, "sampling": PixelCnn}
    model = models[arguments.work]().to(device)
    if arguments.work == "importance":
        x, samples = (images(device)[: arguments.batch] > 0.5).float(), 200
        work = lambda: model.bounds(x, samples, 10)  # noqa: E731
        rate = repeated(work, samples * arguments.batch, arguments.seconds, device)
    elif arguments.work == "sampling":
        rate = repeated(lambda: draw(model, arguments.batch, device), arguments.batch, 0.0, device)
    else:
        rate = training(model, images(device), arguments)
    print(json.dumps({"images_per_s": rate, "device": device, "version": torch.__version__}))


main()
