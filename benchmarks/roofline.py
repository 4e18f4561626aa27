"""How fast this machine multiplies matrices: the ceiling that planning through a network and training it are measured against."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Timing

SQUARES = (512, 1024, 1536)
PREFIX = "matmul"


class Product(NamedTuple):
    """A product [rows, inner] · [inner, columns] in float32, computed by `engine`, xla or numpy."""

    engine: str
    rows: int
    inner: int
    columns: int

    @property
    def name(self) -> str:
        return f"{PREFIX}-{self.engine}-{self.rows}x{self.inner}x{self.columns}"

    @property
    def flops(self) -> int:
        """Two floating-point operations for a multiply-add."""
        return 2 * self.rows * self.inner * self.columns


class Roofline(NamedTuple):
    """The best rate found, and every rate by product."""

    gflops: float
    by_product: dict[str, float]

    @property
    def best(self) -> str:
        return max(self.by_product, key=self.by_product.__getitem__)


def products(rows: int, layers: Iterable[tuple[int, int]]) -> list[Product]:
    """Squares, and `layers` of so many inputs and outputs on `rows`; each by XLA and, on a CPU, by NumPy's library too."""
    shapes = [(size, size, size) for size in SQUARES]
    shapes += [(rows, inputs, outputs) for inputs, outputs in layers]
    engines = ("xla", "numpy") if jax.default_backend() == "cpu" else ("xla",)
    return [Product(engine, *shape) for engine in engines for shape in dict.fromkeys(shapes)]


def calls(of: list[Product]) -> dict[str, Callable[[], Any]]:
    """What to time for each product, by its name."""
    return {product.name: _call(product) for product in of}


def roofline(of: list[Product], timings: Mapping[str, Timing]) -> Roofline:
    """The best of the products' median rates, in 1e9 floating-point operations per second."""
    rates = {product.name: product.flops / timings[product.name].p50 / 1e6 for product in of}
    return Roofline(max(rates.values()), rates)


def _call(product: Product) -> Callable[[], Any]:
    random = np.random.default_rng(0)
    left = random.standard_normal((product.rows, product.inner), np.float32)
    right = random.standard_normal((product.inner, product.columns), np.float32)
    if product.engine == "numpy":
        out = np.empty((product.rows, product.columns), np.float32)
        return lambda: np.matmul(left, right, out=out)
    multiply, arrays = jax.jit(jnp.matmul), (jnp.asarray(left), jnp.asarray(right))
    return lambda: multiply(*arrays)
