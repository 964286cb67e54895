"""A pass in parts gives what a pass over the batch gives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import experiment

from aecli.core import parts
from aecli.core.model import Batch, Spec
from aecli.core.parts import in_parts

SPEC = Spec(8, 8, 1, 10)


def batch(n: int, hidden: Any = None) -> Batch:
    image = jax.random.uniform(jax.random.key(0), (n, *SPEC.shape))
    return Batch(image, jnp.arange(n) % 10, jnp.ones(n, bool), hidden=hidden)


@pytest.fixture
def on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(parts, "AT_ONCE", 4)


@pytest.mark.usefixtures("on_one_device")
@pytest.mark.parametrize("hidden", [None, jnp.ones((1, *SPEC.shape), bool), jnp.ones((12, *SPEC.shape), bool)])
def test_rows_are_those_of_the_whole_batch_and_no_more_at_once(hidden: Any) -> None:
    model = experiment("variant: vae, hidden: [12], latent: 3").model
    sizes: list[int] = []

    def of(part: Batch) -> dict[str, Any]:
        sizes.append(len(part.image))
        shown = jnp.ones(()) if part.hidden is None else part.hidden
        return {"sum": (part.image * shown).sum((1, 2, 3)), "label": part.label}

    found = in_parts(model, of, batch(12, hidden))
    assert set(sizes) == {4}
    np.testing.assert_allclose(found["sum"], batch(12).image.sum((1, 2, 3)), rtol=1e-6)
    assert found["label"].tolist() == batch(12).label.tolist()


@pytest.mark.usefixtures("on_one_device")
@pytest.mark.parametrize("n", [3, 4, 10])
def test_a_batch_that_cannot_be_cut_is_looked_at_at_once(n: int) -> None:
    model = experiment("variant: vae, hidden: [12], latent: 3").model
    sizes: list[int] = []
    in_parts(model, lambda part: (sizes.append(len(part.image)), part.label)[1], batch(n))
    assert sizes == [n]


@pytest.mark.parametrize(
    ("block", "ability"),
    [
        ("variant: bottleneck, latent: 3, net: conv, hidden: [4]", "encode"),
        ("variant: autoregressive, net: pixelcnn, width: 4, layers: 1", "log_prob"),
        ("variant: vae, latent: 3, hidden: [8]", "reconstruct"),
    ],
)
def test_abilities_give_the_same_in_parts(block: str, ability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    e = experiment(block)
    state = e.model.init(jax.random.key(0), SPEC, e.recipe(48))

    def of(some: Batch) -> Any:
        return getattr(e.model, ability)(state, some)

    whole = of(batch(12))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(parts, "AT_ONCE", 4)
    np.testing.assert_allclose(in_parts(e.model, of, batch(12)), whole, rtol=1e-5, atol=1e-5)
