"""The networks that the tests convert: plain jax.numpy and jax.lax, weights first."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

print("nets was loaded", flush=True)  # noqa: T201


def mlp(weights: Any, x: Any) -> Any:
    for layer in weights["layers"][:-1]:
        x = jax.nn.gelu(x @ layer["w"] + layer["b"])
    last = weights["layers"][-1]
    return jax.nn.softmax(x @ last["w"] + last["b"])


@jax.jit
def conv(weights: Any, image: Any) -> Any:
    y = lax.conv_general_dilated(image, weights["a"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = jax.nn.relu(y + weights["bias"])
    y = lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    y = lax.conv_general_dilated(
        y, weights["b"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=8
    )
    return y.mean((1, 2)) @ weights["out"]


def attention(weights: Any, x: Any) -> Any:
    batch, length, width = x.shape
    heads = 4
    y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * weights["scale"]
    q, k, v = (
        (y @ weights[name]).reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3) for name in "qkv"
    )
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(width // heads)
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    mixed = (jax.nn.softmax(scores, -1) @ v).transpose(0, 2, 1, 3).reshape(batch, length, width)
    return {"y": x + mixed @ weights["o"], "last": mixed[:, -1]}


def recurrent(x: Any) -> Any:
    def step(state: Any, row: Any) -> Any:
        state = jnp.tanh(row * 0.5 + state * 0.25)
        return state, state

    last, states = lax.scan(step, jnp.zeros((x.shape[0], 4)), x.transpose(1, 0, 2))
    return last, states.transpose(1, 0, 2)


def fails(x: Any) -> Any:
    raise ValueError("not today")


def nchw_window(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 2), (1, 1, 2, 1), "SAME")


def wide_window(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 2), (1, 2, 2, 2), "VALID")
