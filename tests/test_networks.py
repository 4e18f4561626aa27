"""The fast form of a network's layers is the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from worldmodels.networks import MLP, frozen, silu


def plainly(network: MLP, x):
    """Layer by layer, as flax has them."""
    for layer, norm in zip(network.layers, network.norms, strict=True):
        x = jax.nn.silu(norm(layer(x)))
    return network.output(x)


@pytest.fixture(scope="module")
def network() -> MLP:
    """Weights, scales and biases away from their initial zeros and ones."""
    network = MLP(5, (16, 8), 3, rngs=nnx.Rngs(0))
    leaves, tree = jax.tree.flatten(network)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.3 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)])
def test_values_are_those_of_linear_layernorm_silu(network, shape):
    x = 10 + jax.random.normal(jax.random.key(2), shape)  # far from zero, where E[x²] − E[x]² would lose digits
    np.testing.assert_allclose(jax.jit(MLP.__call__)(network, x), jax.jit(plainly)(network, x), rtol=1e-5, atol=1e-5)


def test_gradients_are_too(network):
    x = jax.random.normal(jax.random.key(3), (4, 5))
    slopes = [jax.jit(jax.grad(lambda n, x, f=f: (f(n, x) ** 2).sum(), argnums=(0, 1))) for f in (MLP.__call__, plainly)]
    fast, plain = (slope(network, x) for slope in slopes)
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_silu_is_finite_with_its_slope_everywhere():
    x = jnp.array([-1e30, -200.0, -1.0, 0.0, 1.0, 200.0, 1e30])
    np.testing.assert_allclose(silu(x)[1:-1], jax.nn.silu(x)[1:-1], rtol=1e-6, atol=1e-6)
    assert np.isfinite(jax.vmap(jax.grad(silu))(x)).all()


def test_a_frozen_network_says_the_same_and_the_one_it_was_made_of_stays(network):
    before = jax.tree.map(np.array, jax.tree.leaves(network))
    x = jax.random.normal(jax.random.key(4), (4, 5))
    ready = frozen({"inside": (network,)})["inside"][0]
    np.testing.assert_allclose(ready(x), network(x), rtol=1e-6)
    np.testing.assert_allclose(ready.layers[0].kernel[...].sum(-1), 0.0, atol=1e-5)
    for a, b in zip(before, jax.tree.leaves(network), strict=True):
        np.testing.assert_array_equal(a, b)
    assert frozen(ready) is ready
