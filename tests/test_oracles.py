"""Models whose optimum is known."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call, first_state
from fit import dataset, experiment, fit

from aecli.core.learner import Recipe
from aecli.core.model import Batch, Spec
from aecli.core.optimizer import Optimizer
from aecli.models.vae import VAE


def test_a_linear_autoencoder_reaches_the_pca_optimum(tmp_path: Path) -> None:
    data = dataset(train=256)
    pixels = data.train.images.reshape(256, -1) / 255.0
    centred = pixels - pixels.mean(0)
    singular = np.linalg.svd(centred, compute_uv=False)
    best = (singular[4:] ** 2).sum() / pixels.size
    e = experiment(
        "variant: bottleneck, net: linear, latent: 4", "steps: 3000, checkpoint_every: 3000, eval_every: 1000", "batch_size: 128",
        "learning_rate: 1e-2, schedule: cosine, warmup: 100",
    )  # fmt: skip
    _, training = fit(tmp_path, e, data)
    state = training.state
    image = jnp.asarray(pixels.reshape(-1, 8, 8, 1), jnp.float32)
    made = np.asarray(call(e.model, "reconstruct", state, Batch(image, jnp.zeros(256, jnp.int32), jnp.ones(256, bool))))
    reached = ((made.reshape(256, -1) - pixels) ** 2).mean()
    assert best * (1 - 1e-5) <= reached <= best * 1.001


@pytest.mark.parametrize("step", [None, 0, 5, 50])
def test_the_loss_of_a_vae_is_distortion_plus_weighted_rate(step: int | None) -> None:
    model = VAE(latent=3, hidden=(8,), beta=0.5, kl_warmup=10)
    spec = Spec(8, 8, 1, 0)
    state = first_state(model, spec, Recipe(Optimizer(), 1))
    batch = Batch(jax.random.uniform(jax.random.key(1), (4, 8, 8, 1)), jnp.full(4, -1), jnp.ones(4, bool))
    values = jax.jit(model.loss)(state.net, batch, jax.random.key(2), None if step is None else jnp.int32(step))
    weight = 0.5 if step is None else 0.5 * min(1, step / 10)
    assert jnp.allclose(values["loss"], values["distortion_nats"] + weight * values["rate_nats"], rtol=1e-6)


@pytest.mark.parametrize("text", ["variant: vae, hidden: [8], latent: 3", "variant: hvae, hidden: 8, latent: 3"])
def test_a_warm_up_of_the_rate_does_not_act_at_evaluation(text: str) -> None:
    model = experiment(f"{text}, kl_warmup: 10").model
    state = model.init(jax.random.key(0), Spec(8, 8, 1, 0), Recipe(Optimizer(), 100))
    batch = Batch(jax.random.uniform(jax.random.key(1), (4, 8, 8, 1)), jnp.full(4, -1), jnp.ones(4, bool))
    values = model.evaluate(state, batch, jax.random.key(2))
    assert float(jnp.abs(values["rate_nats"]).min()) > 1e-3
    assert jnp.allclose(values["loss"], values["distortion_nats"] + values["rate_nats"], rtol=1e-6)


def test_free_bits_cost_nothing_below_and_everything_above_in_training_only() -> None:
    spec = Spec(8, 8, 1, 0)
    batch = Batch(jax.random.uniform(jax.random.key(1), (4, 8, 8, 1)), jnp.full(4, -1), jnp.ones(4, bool))
    losses = {}
    for free in (0.0, 1000.0):
        model = VAE(latent=3, hidden=(8,), free_bits=free)
        state = first_state(model, spec, Recipe(Optimizer(), 1))

        def mean_loss(net, step, model=model):
            return jax.jit(model.loss)(net, batch, jax.random.key(2), step)["loss"].mean()

        losses[free] = (float(mean_loss(state.net, jnp.int32(1))), float(mean_loss(state.net, None)))
    assert losses[0.0][0] == losses[0.0][1] == losses[1000.0][1]
    values = jax.jit(model.loss)(state.net, batch, jax.random.key(2), jnp.int32(1))
    assert jnp.allclose(values["loss"], values["distortion_nats"] + 3000.0, rtol=1e-6)


def test_a_capacity_rises_in_training_and_is_whole_at_evaluation() -> None:
    """The distance of each image's rate from it, and a training that ends there: Burgess et al. 2018, equation 8."""
    spec = Spec(8, 8, 1, 0)
    batch = Batch(jax.random.uniform(jax.random.key(1), (4, 8, 8, 1)), jnp.full(4, -1), jnp.ones(4, bool))
    model = VAE(latent=3, hidden=(8,), beta=10.0, capacity_nats=6.0, capacity_warmup=4)
    net = first_state(model, spec, Recipe(Optimizer(), 1)).net
    for step, capacity in ((0, 0.0), (1, 1.5), (4, 6.0), (9, 6.0), (None, 6.0)):
        values = jax.jit(model.loss)(net, batch, jax.random.key(2), None if step is None else jnp.int32(step))
        charged = 10.0 * abs(values["rate_nats"] - capacity)
        assert jnp.allclose(values["loss"], values["distortion_nats"] + charged, rtol=1e-6), step
    plain = VAE(latent=3, hidden=(8,))
    state = first_state(plain, spec, Recipe(Optimizer(), 1))
    both = [m.log_weights(state, batch, jax.random.key(3), 5) for m in (model, plain)]
    assert jnp.array_equal(*both), "the likelihood knows no capacity"


def test_a_rate_settles_at_its_capacity(tmp_path: Path) -> None:
    e = experiment("variant: vae, hidden: [32], latent: 4, beta: 50.0, capacity_nats: 1.5", "steps: 300", "batch_size: 48")
    _, training = fit(tmp_path, e, dataset())
    batch = Batch(jnp.asarray(dataset().train.images / np.float32(255)), jnp.asarray(dataset().train.labels), jnp.ones(48, bool))
    rate = call(e.model, "evaluate", training.state, batch, jax.random.key(0))["rate_nats"]
    assert float(rate.mean()) == pytest.approx(1.5, abs=0.3)


def test_a_learned_sigma_settles_at_the_root_of_the_mean_squared_error(tmp_path: Path) -> None:
    """The optimum of a Gaussian likelihood in sigma, Rybkin et al. 2021, equation 6."""
    data = dataset(train=64)
    e = experiment(
        "variant: vae, hidden: [32], latent: 2, likelihood: gaussian", "steps: 1500, eval_every: 1000, checkpoint_every: 3000",
        "batch_size: 64", "learning_rate: 1e-2, schedule: cosine",
    )  # fmt: skip
    _, training = fit(tmp_path, e, data)
    model, state = e.model, training.state
    image = jnp.asarray(data.train.images / np.float32(255))
    net = state.net
    posterior = net.posterior(image, jnp.asarray(data.train.labels))
    errors = [float(jnp.mean((net.decoder(posterior.sample(jax.random.key(i))) - image) ** 2)) for i in range(20)]
    assert isinstance(model, VAE)
    assert float(jnp.exp(net.log_sigma[...])) == pytest.approx(np.sqrt(np.mean(errors)), rel=0.05)
