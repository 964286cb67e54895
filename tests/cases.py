"""Every variant that is found, with its defaults and with settings that reach its other code paths."""

from __future__ import annotations

from aecli.config import variants
from aecli.core.optimizer import Optimizer

SETTINGS = {
    "autoregressive": [
        "net: made, levels: 2, hidden: [20, 20], conditional: true",
        "levels: 4, width: 8, layers: 1, patch: 2, conditional: true",
        "net: gmlp, levels: 2, width: 8, layers: 1, heads: 2, patch: 2",
        "net: transformer, levels: 16, width: 8, layers: 1, likelihood: discretized_logistic, components: 2",
    ],
    "bottleneck": [
        "net: linear, latent: 3",
        "net: mlp, hidden: [12], latent: 3, likelihood: bernoulli, corruption: {name: masking, p: 0.2}",
        "net: conv, hidden: [4, 6], latent: 3",
    ],
    "denoising": [
        "net: conv, hidden: [4, 6], corruption: [{name: downsample, factor: 2}, {name: gaussian, sigma: 0.1}]",
        "net: mlp, hidden: [12], latent: 9, corruption: {name: salt_pepper, p: 0.3}",
    ],
    "gan": [
        "hidden: [16, 16], objective: wgan_gp, spectral_norm: false, conditional: true, discriminator_steps: 2",
        "hidden: [4], objective: non_saturating, r1: 1.0, discriminator_rate: 0.5",
    ],
    "hvae": ["hidden: 12, latent: 3, prior: vamp, pseudo_inputs: 5, kl_warmup: 4", "hidden: 12, latent: 3, samples: 3"],
    "sparse": [
        "penalty: batch_topk, units: 90, k: 4, dead_after: 2",
        "penalty: l1, net: conv, hidden: [4, 6], units: 12",
        "penalty: kl, units: 12",
    ],
    "vae": [
        "hidden: [12], latent: 3, kl_warmup: 4, free_bits: 0.1",
        "net: conv, hidden: [4, 6], latent: 3, likelihood: gaussian, sigma: predicted",
        "net: linear, latent: 3, likelihood: gaussian, sigma: 0.3, beta: 2.0",
        "net: gated, hidden: [12], latent: 3, prior: vamp, pseudo_inputs: 5, conditional: true",
        "net: resnet, hidden: [4], latent: 3, likelihood: discretized_logistic, samples: 3",
    ],
    "vq": [
        "hidden: [4, 6], codes: 8, dimension: 2, prior_width: 8, prior_layers: 1, restart_after: 2",
        "hidden: [4, 6], quantizer: fsq, levels: [3, 2], prior_width: 8, prior_layers: 1, conditional: true",
    ],
}
# What a variant needs to learn at all where it is not Adam as it comes.
OPTIMIZERS = {"gan": Optimizer(learning_rate=2e-3, b1=0.0)}
CASES = [
    f"variant: {name}{', ' + more if more else ''}" for name in variants.variants() for more in ["", *SETTINGS.get(name, [])]
]
