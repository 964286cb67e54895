"""Every variant that is found, with its defaults and with settings that reach its other code paths."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import pytest

from aecli.config import variants

SETTINGS = {
    "autoregressive": {
        "made": "net: made, levels: 2, hidden: [20, 20], conditional: true, hybrid: 0.5",
        "patch": "levels: 4, width: 8, layers: 1, patch: 2, conditional: true",
        "gmlp": "net: gmlp, levels: 2, width: 8, layers: 1, heads: 2, patch: 2",
        "dropout": "net: pixelcnn, levels: 2, width: 8, layers: 1, patch: 2, dropout: 0.2",
        "transformer": "net: transformer, levels: 16, width: 8, layers: 1, likelihood: discretized_logistic, components: 2",
        "given": "net: gmlp, levels: 4, width: 8, layers: 1, heads: 2, patch: 2, given: {name: outline, threshold: 0.25}",
    },
    "bottleneck": {
        "linear": "net: linear, latent: 3",
        "sigmoid": "net: mlp, hidden: [12], latent: 3, output: sigmoid",
        "mlp-bernoulli": "net: mlp, hidden: [12], latent: 3, likelihood: bernoulli, corruption: {name: masking, p: 0.2}",
        "conv": "net: conv, hidden: [4, 6], latent: 3",
    },
    "denoising": {
        "conv": "net: conv, hidden: [4, 6], corruption: [{name: downsample, factor: 2}, {name: gaussian, sigma: 0.1}]",
        "mlp": "net: mlp, hidden: [12], latent: 9, corruption: {name: salt_pepper, p: 0.3}, output: sigmoid",
    },
    "gan": {
        "wgan": "hidden: [16, 16], objective: wgan_gp, spectral_norm: false, conditional: true, discriminator_steps: 2",
        "r1": "hidden: [4], objective: non_saturating, r1: 1.0, discriminator_rate: 0.5",
    },
    "hvae": {
        "vamp": "hidden: 12, latent: 3, prior: vamp, pseudo_inputs: 5, kl_warmup: 4",
        "samples": "hidden: 12, latent: 3, samples: 3, samples_from: 2, prior: mog, components: 4",
        "squares": "hidden: 12, latent: 3, prior: mog, components: 4, decoder: gmlp, width: 8, layers: 2, heads: 2",
        "dropout": "hidden: 12, latent: 3, dropout: 0.2, samples: 2, samples_from: 2",
        "conditional": "hidden: 12, latent: 3, prior: vamp, pseudo_inputs: 5, conditional: true",
        "flow": "hidden: 12, latent: 3, prior: flow, couplings: 2, likelihood: discretized_logistic",
    },
    "sparse": {
        "batch-topk": "penalty: batch_topk, units: 90, k: 4, dead_after: 2",
        "refined": "penalty: topk, units: 90, k: 4, refinements: 2",
        "l1-conv": "penalty: l1, net: conv, hidden: [4, 6], units: 12",
        "kl": "penalty: kl, units: 12",
    },
    "vae": {
        "free-bits": "hidden: [12], latent: 3, kl_warmup: 4, free_bits: 0.1",
        "conv-gaussian": "net: conv, hidden: [4, 6], latent: 3, likelihood: gaussian, sigma: predicted",
        "linear-beta": "net: linear, latent: 3, likelihood: gaussian, sigma: 0.3, beta: 2.0, prior: mog, components: 4",
        "gated-vamp": "net: gated, hidden: [12], latent: 3, prior: vamp, pseudo_inputs: 5, conditional: true",
        "capacity": "hidden: [12], latent: 3, beta: 10.0, capacity_nats: 2.0, capacity_warmup: 4",
        "resnet-flow": "net: resnet, hidden: [4], latent: 3, likelihood: discretized_logistic, samples: 3, prior: flow",
        "given": "hidden: [12], latent: 3, conditional: true, given: [{name: downsample, factor: 2}, {name: masking, p: 0.1}]",
    },
    "vq": {
        "restart": "hidden: [4, 6], codes: 8, dimension: 2, prior_width: 8, prior_layers: 1, restart_after: 2",
        "fsq": "hidden: [4, 6], quantizer: fsq, levels: [3, 2], prior_width: 8, prior_layers: 1, conditional: true",
    },
}
"""Variant -> what a case is about -> its settings."""
SMALL = {
    "autoregressive": "width: 16, layers: 2",
    "denoising": "hidden: [8, 12]",
    "gan": "hidden: [12, 16]",
    "hvae": "hidden: 24, latent: 8",
    "vq": "hidden: [8, 12], codes: 32, prior_width: 12, prior_layers: 2",
}
"""Sizes for defaults that take seconds to compute; in full they are smoke-tested by `test_configs.py`."""
OPTIMIZERS = {"gan": "learning_rate: 2e-3, b1: 0.0"}
"""What a variant needs to learn at all where it is not Adam as it comes: the inside of the `optimizer` block."""


class Case(NamedTuple):
    """`name` is the variant's, and what the case is about; `text` is the inside of the `model` block."""

    name: str
    text: str


CASES = [
    Case("-".join([name, about] if about else [name]), f"variant: {name}{', ' + more if more else ''}")
    for name in variants.variants()
    for about, more in {"": SMALL.get(name, ""), **SETTINGS.get(name, {})}.items()
]


def named(cases: list[Case], portable: Collection[str] = ()) -> list[object]:
    """Parameters of a test, each with the case's name as its id; those of the names in `portable` marked so."""
    mark = pytest.mark.portable
    return [pytest.param(case.text, id=case.name, marks=[mark] if case.name in portable else []) for case in cases]
