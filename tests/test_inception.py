"""The Inception network has the published form, and a file that is not its weights is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aecli.errors import UsageError
from aecli.evaluation.judges import inception

# Output channels and kernel of each convolution (Szegedy et al. 2016, as in the usual PyTorch port).
FORM: dict[str, tuple[int, int, int]] = {
    "Conv2d_1a_3x3": (32, 3, 3),
    "Conv2d_2a_3x3": (32, 3, 3),
    "Conv2d_2b_3x3": (64, 3, 3),
    "Conv2d_3b_1x1": (80, 1, 1),
    "Conv2d_4a_3x3": (192, 3, 3),
    "Mixed_6a.branch3x3": (384, 3, 3),
    "Mixed_7a.branch3x3_2": (320, 3, 3),
}
for block, pool in (("5b", 32), ("5c", 64), ("5d", 64)):
    branches = {"1x1": (64, 1, 1), "5x5_1": (48, 1, 1), "5x5_2": (64, 5, 5), "_pool": (pool, 1, 1)}
    branches |= {"3x3dbl_1": (64, 1, 1), "3x3dbl_2": (96, 3, 3), "3x3dbl_3": (96, 3, 3)}
    FORM |= {f"Mixed_{block}.branch{name}": form for name, form in branches.items()}
FORM |= {f"Mixed_6a.branch3x3dbl_{n}": form for n, form in ((1, (64, 1, 1)), (2, (96, 3, 3)), (3, (96, 3, 3)))}
for block, c in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
    branches = {"1x1": (192, 1, 1), "7x7_1": (c, 1, 1), "7x7_2": (c, 1, 7), "7x7_3": (192, 7, 1), "_pool": (192, 1, 1)}
    branches |= {
        "7x7dbl_1": (c, 1, 1),
        "7x7dbl_2": (c, 7, 1),
        "7x7dbl_3": (c, 1, 7),
        "7x7dbl_4": (c, 7, 1),
        "7x7dbl_5": (192, 1, 7),
    }
    FORM |= {f"Mixed_{block}.branch{name}": form for name, form in branches.items()}
FORM |= {f"Mixed_7a.branch{name}": (192, *kernel) for name, kernel in
         {"3x3_1": (1, 1), "7x7x3_1": (1, 1), "7x7x3_2": (1, 7), "7x7x3_3": (7, 1), "7x7x3_4": (3, 3)}.items()}  # fmt: skip
for block in ("7b", "7c"):
    branches = {"1x1": (320, 1, 1), "3x3_1": (384, 1, 1), "3x3_2a": (384, 1, 3), "3x3_2b": (384, 3, 1), "_pool": (192, 1, 1)}
    branches |= {"3x3dbl_1": (448, 1, 1), "3x3dbl_2": (384, 3, 3), "3x3dbl_3a": (384, 1, 3), "3x3dbl_3b": (384, 3, 1)}
    FORM |= {f"Mixed_{block}.branch{name}": form for name, form in branches.items()}


def weights(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Random ones; the input channels of each convolution are those that reach it."""
    made: dict[str, Any] = {}
    rng = np.random.default_rng(0)

    def shapes_only(params: Any, x: Any, name: str, stride: int = 1, valid: bool = False) -> Any:
        out, height, width = FORM[name]
        scale = np.sqrt(2 / (x.shape[-1] * height * width))
        made[f"{name}.conv.weight"] = (scale * rng.standard_normal((out, x.shape[-1], height, width))).astype(np.float32)
        for part in ("weight", "bias", "running_mean", "running_var"):
            made[f"{name}.bn.{part}"] = rng.uniform(0.5, 1.5, out).astype(np.float32)
        padding = (0, 0) if valid else (height // 2, width // 2)
        rows, columns = (
            (side + 2 * p - k) // stride + 1 for side, p, k in zip(x.shape[1:3], padding, (height, width), strict=True)
        )
        return jnp.zeros((len(x), rows, columns, out))

    with monkeypatch.context() as patched:
        patched.setattr(inception, "_conv", shapes_only)
        shape = jax.eval_shape(inception.forward.__wrapped__, {}, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)).shape
    assert shape == (1, inception.FEATURES) and len(made) == 5 * len(FORM) == 5 * 94
    return made


def test_the_network_has_94_convolutions_and_2048_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = weights(monkeypatch)
    np.savez(tmp_path / "weights.npz", **made)
    monkeypatch.setattr(inception, "SIDE", 75)  # the smallest image that the network can see
    judge = inception.load(tmp_path / "weights.npz")
    image = np.random.default_rng(1).uniform(size=(3, 8, 8, 1)).astype(np.float32)
    features = judge.features(image)
    assert features.shape == (3, 2048) and np.isfinite(features).all() and len(judge.hash) == 64
    assert np.allclose(features, judge.features(np.repeat(image, 3, axis=3)), rtol=1e-4), "gray is three equal colours"
    made.pop("Mixed_7c.branch_pool.conv.weight")
    np.savez(tmp_path / "less.npz", **made)
    with pytest.raises(UsageError, match=r"Mixed_7c.branch_pool.conv.weight"):
        inception.load(tmp_path / "less.npz")
    (tmp_path / "text.npz").write_text("no weights")
    with pytest.raises(UsageError, match="cannot be read as an npz file"):
        inception.load(tmp_path / "text.npz")


def test_a_mean_does_not_count_what_is_outside() -> None:
    assert np.allclose(inception._mean(jnp.ones((1, 4, 5, 2))), 1)
