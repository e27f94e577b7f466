"""Microseconds per product of a linear layer, with its matrix stored as models come and as this package stores it.

    python tests/benchmarks/matrix_layout.py [--rounds 9]

One thread of BLAS, float32. `ABSTRACTLLM_MLX_BLAS=` (empty) shows the BLAS of MLX's own wheel.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from measure import interleave, machine, table

from abstractllm.providers.mlx.backend import import_mlx, load_blas
from abstractllm.providers.mlx.loading import lay_out_for_blas

SHAPES = ((256, 256), (480, 256), (512, 512), (1376, 512), (512, 1376), (8192, 512), (2048, 2048))
"""Outputs and inputs of the layers."""

PRODUCTS = 20
"""Products per measurement, so that the cost of starting one does not show."""


def microseconds(layer: Any, x: Any) -> float:
    """Return the mean time of one product."""
    import mlx.core as mx

    start = time.perf_counter()
    mx.eval([layer(x) for _ in range(PRODUCTS)])
    return (time.perf_counter() - start) / PRODUCTS * 1e6


def main() -> None:
    """Print a table for every number of rows and shape."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    mx = import_mlx()
    from mlx import nn

    print(machine(), "\n")
    for rows in (1, 8, 32):
        for outputs, inputs in SHAPES:
            x = mx.random.normal((rows, 1, inputs))
            stored, laid_out = (nn.Sequential(nn.Linear(inputs, outputs, bias=False)) for _ in range(2))
            lay_out_for_blas(laid_out, load_blas())
            mx.eval(x, stored.parameters(), laid_out.parameters())
            contestants = {
                "this package": lambda layer=laid_out, x=x: microseconds(layer, x),
                "as stored": lambda layer=stored, x=x: microseconds(layer, x),
            }
            title = f"{rows} rows, {outputs} x {inputs}"
            print(table(title, "us", interleave(contestants, options.rounds), "this package"), flush=True)


if __name__ == "__main__":
    main()
