"""Layers in the forms that are fast on the CPU give what the plain ones give."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm import embedded
from abstractllm.providers.mlx.backend import Blas, import_mlx
from abstractllm.providers.mlx.loading import lay_out_for_blas, quicken

from .test_runner import FAMILIES, LLAMA, random_network

mx = import_mlx()

from mlx import nn  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402
from mlx_lm.models import llama  # noqa: E402
from mlx_lm.models.cache import QuantizedKVCache  # noqa: E402
from mlx_lm.utils import load_model  # noqa: E402

from abstractllm.providers.mlx.blocked import (  # noqa: E402
    FEW_ROWS,
    NARROWEST,
    SMALL_PRODUCT,
    BlockedEmbedding,
    BlockedLinear,
    ColumnLinear,
    cut_into_blocks,
    number_of_blocks,
)
from abstractllm.providers.mlx.caches import RowCaches  # noqa: E402
from abstractllm.providers.mlx.gating import QUICK, quicken_gating, swiglu  # noqa: E402
from abstractllm.providers.mlx.llamas import DecodingLlama, QuickNorm, attend, quicken_llamas  # noqa: E402
from abstractllm.providers.mlx.rotation import TabulatedRotation, table_of, tabulate_rotations  # noqa: E402

AVX512 = Blas("libopenblas.so.0", core="SkylakeX")


@given(outputs=st.integers(1, 9000), inputs=st.integers(1, 9000))
def test_blocks_are_equally_wide_and_neither_too_narrow_nor_for_nothing(outputs: int, inputs: int) -> None:
    count = number_of_blocks(outputs, inputs)
    assert outputs % count == 0
    if count > 1:
        assert outputs // count >= NARROWEST
        assert FEW_ROWS * inputs * outputs > SMALL_PRODUCT


@settings(deadline=None, max_examples=30)
@given(
    rows=st.sampled_from([1, 2, 16, 17, 31, 33, 64, 65, 200]),
    shape=st.sampled_from([(512, 512), (1376, 512), (512, 1376), (2048, 256)]),
    bias=st.booleans(),
    dimensions=st.integers(1, 3),
)
def test_a_layer_in_blocks_gives_what_the_plain_one_gives(
    rows: int, shape: tuple[int, int], bias: bool, dimensions: int
) -> None:
    outputs, inputs = shape
    plain = nn.Linear(inputs, outputs, bias=bias)
    blocked = BlockedLinear(plain, number_of_blocks(outputs, inputs))
    x = mx.random.normal({1: (rows, inputs), 2: (rows, 1, inputs), 3: (1, rows, inputs)}[dimensions])
    assert blocked(x).shape == plain(x).shape
    assert mx.allclose(blocked(x), plain(x), atol=1e-4)
    assert mx.array_equal(blocked.weight, plain.weight)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_by_columns_gives_what_the_plain_one_gives(bias: bool) -> None:
    plain = nn.Linear(40, 24, bias=bias)
    columns = ColumnLinear(plain)
    for shape in ((40,), (3, 40), (2, 5, 40)):
        x = mx.random.normal(shape)
        assert mx.allclose(columns(x), plain(x), atol=1e-5)
    assert mx.array_equal(columns.weight, plain.weight)


@pytest.mark.parametrize("copy", [True, False])
def test_an_embedding_in_blocks_still_looks_tokens_up(copy: bool) -> None:
    plain = nn.Embedding(2048, 256)
    blocked = BlockedEmbedding(plain, number_of_blocks(2048, 256), copy)
    tokens = mx.array([[0, 2047], [5, 5]])
    assert mx.array_equal(blocked(tokens), plain(tokens))
    for rows in (3, 1, 100):
        x = mx.random.normal((rows, 1, 256))
        assert mx.allclose(blocked.as_linear(x), plain.as_linear(x), atol=1e-4)


def test_large_layers_of_float32_are_cut_and_nothing_else_is() -> None:
    model = nn.Sequential(
        nn.Linear(512, 512), nn.Linear(16, 16), nn.Linear(512, 1031), nn.RMSNorm(512), nn.Embedding(4096, 256)
    )
    model.layers.append(nn.Linear(512, 512))
    model.layers[-1].set_dtype(mx.float16)
    before = [id(layer) for layer in model.layers]
    cut_into_blocks(model)
    assert [type(layer).__name__ for layer in model.layers] == [
        "BlockedLinear", "Linear", "Linear", "RMSNorm", "BlockedEmbedding", "Linear",
    ]  # fmt: skip
    assert [id(model.layers[i]) for i in (1, 2, 3, 5)] == [before[i] for i in (1, 2, 3, 5)]


def test_old_matrices_go_one_by_one() -> None:
    layers = [nn.Linear(1024, 1024, bias=False) for _ in range(8)]
    model = nn.Sequential(*layers)
    mx.eval(model.parameters())
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    cut_into_blocks(model)
    assert mx.get_peak_memory() - before < 4 * 2**22  # of 8 matrices of 4 MiB


@pytest.mark.parametrize("blas", [Blas(None), Blas("libmkl_rt.so"), Blas("libopenblas.so.0", core="Haswell")])
def test_only_a_blas_that_reads_small_matrices_in_place_gets_blocks(blas: Blas) -> None:
    model = nn.Sequential(nn.Linear(512, 512))
    lay_out_for_blas(model, blas)
    assert type(model.layers[0]) is ColumnLinear
    model = nn.Sequential(nn.Linear(512, 512))
    lay_out_for_blas(model, AVX512)
    assert type(model.layers[0]) is BlockedLinear


@pytest.mark.parametrize("rope", [nn.RoPE(32), nn.RoPE(64, base=500_000.0, scale=0.5), nn.RoPE(128, base=1e6)])
@pytest.mark.parametrize("offset", [0, 7, 4100, "rows"])
def test_a_rotation_from_the_table_is_the_computed_one_to_the_last_bit(rope: nn.RoPE, offset: int | str) -> None:
    tabulated = TabulatedRotation(rope, table_of(rope, 4160))
    place = mx.array([0, 9, 4159]) if offset == "rows" else offset
    for tokens in (1, 3):
        queries, keys = (mx.random.normal((3, heads, tokens, rope.dims)) for heads in (4, 2))
        if tokens == 3 and offset == "rows":
            place = mx.array([0, 9, 4000])
        for x in (queries, keys):
            assert mx.array_equal(tabulated(x, offset=place), rope(x, offset=place))


def test_nothing_is_read_beyond_the_table() -> None:
    rope = nn.RoPE(32)
    tabulated, x = TabulatedRotation(rope, table_of(rope, 100)), mx.random.normal((2, 4, 1, 32))
    assert mx.array_equal(tabulated(x, offset=100), rope(x, offset=100))
    assert mx.array_equal(tabulated(x, offset=mx.array([99, 5000])), rope(x, offset=99))


def test_rotations_that_no_table_can_have_are_left_alone() -> None:
    model = nn.Sequential(nn.RoPE(32, traditional=True), nn.RoPE(128), nn.RoPE(32))
    tabulate_rotations(model, None)
    tabulate_rotations(model, 1_000_000)
    assert all(type(layer) is nn.RoPE for layer in model.layers)
    tabulate_rotations(model, 4096)
    assert [type(layer).__name__ for layer in model.layers] == ["RoPE", "TabulatedRotation", "TabulatedRotation"]
    halves = mx.random.normal((1, 1, 1, 64))  # of which only the first 32 are rotated
    assert mx.array_equal(model.layers[2](halves, offset=3), nn.RoPE(32)(halves, offset=3))


@pytest.mark.parametrize("heads", [(4, 4), (8, 2), (6, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_of_one_token_is_that_of_mlx(heads: tuple[int, int], masked: bool) -> None:
    queries, kept = mx.random.normal((3, heads[0], 1, 16)) * 5, (3, heads[1], 40, 16)
    keys, values = mx.random.normal(kept), mx.random.normal(kept)
    mask = (mx.arange(40) >= mx.array([0, 7, 39])[:, None])[:, None, None, :] if masked else None
    expected = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.25, mask=mask)
    assert mx.allclose(attend(queries, keys, values, 0.25, mask).reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 16), (5, 300)])
def test_the_norm_of_rows_is_that_of_mlx(shape: tuple[int, int]) -> None:
    norm = nn.RMSNorm(shape[1], eps=1e-5)
    norm.weight = mx.random.normal((shape[1],))
    norm.__class__ = QuickNorm
    norm.prepare()
    for size in (1e-4, 1.0, 1e4):
        x = mx.random.normal(shape) * size
        assert mx.allclose(norm.of_rows(x), norm(x), rtol=1e-5, atol=1e-6)


def scores_of(model: nn.Module, rows: int, caches: list[Any]) -> list[mx.array]:
    steps = [mx.random.randint(0, 90, (rows, count), key=mx.random.key(count)) for count in (9, 1, 1, 2, 1, 1)]
    return [model(tokens, cache=caches) for tokens in steps]


SMALL = {
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 48, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 90, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "special",
    [
        {},
        {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
        {"rope_traditional": True, "head_dim": 16},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}},
        {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    ],
)
def test_a_llama_decodes_in_few_operations_as_before(rows: int, special: dict[str, Any]) -> None:
    model = llama.Model(llama.ModelArgs.from_dict({**SMALL, **special}))
    model.apply(lambda array: mx.random.normal(array.shape) * 0.3)
    expected = scores_of(model, rows, RowCaches.new(model, rows).layers)
    lay_out_for_blas(model, AVX512)
    tabulate_rotations(model, 64)
    quicken_llamas(model)
    quicken_gating(model)
    assert type(model.model) is DecodingLlama
    for found, scores in zip(scores_of(model, rows, RowCaches.new(model, rows).layers), expected, strict=True):
        assert mx.allclose(found, scores, atol=1e-4)


@pytest.mark.parametrize("name", [*FAMILIES, "llama without some rotations"])
@pytest.mark.parametrize("rows", [1, 3])
def test_models_of_all_kinds_score_as_before(name: str, rows: int) -> None:
    family, config, _ = FAMILIES.get(name, ("smollm3", LLAMA | {"no_rope_layer_interval": 2}, set()))
    model = random_network(family, config)
    expected = scores_of(model, rows, RowCaches.new(model, rows).layers)
    lay_out_for_blas(model, AVX512)
    quicken(model, 64)
    for found, scores in zip(scores_of(model, rows, RowCaches.new(model, rows).layers), expected, strict=True):
        assert mx.allclose(found, scores, rtol=1e-3, atol=1e-3 * float(mx.abs(scores).max()))


@pytest.mark.parametrize("shape", [(24, 40), (1376, 512)])
def test_a_matrix_can_be_replaced(shape: tuple[int, int]) -> None:
    """gemma3n sets the weight of some layers in every forward pass."""
    model = nn.Sequential(nn.Linear(shape[1], shape[0], bias=False))
    lay_out_for_blas(model, AVX512)
    replaced, x = mx.random.normal(shape), mx.random.normal((3, shape[1]))
    model.layers[0].weight = replaced
    assert type(model.layers[0]) in (ColumnLinear, BlockedLinear)
    assert mx.array_equal(model.layers[0].weight, replaced)
    assert mx.allclose(model(x), x @ replaced.T, rtol=1e-4, atol=1e-3)


def test_a_llama_with_some_numbers_in_half_precision_stays_as_it_is() -> None:
    model = llama.Model(llama.ModelArgs.from_dict(SMALL))
    model.model.embed_tokens.set_dtype(mx.bfloat16)
    quicken_llamas(model)
    assert type(model.model) is llama.LlamaModel


def test_a_llama_with_quantised_caches_or_in_half_precision_stays_as_it_is() -> None:
    model = llama.Model(llama.ModelArgs.from_dict(SMALL | {"head_dim": 32}))
    halved = llama.Model(llama.ModelArgs.from_dict(SMALL))
    halved.set_dtype(mx.float16)
    quicken_llamas(halved)
    assert type(halved.model) is llama.LlamaModel
    caches = [[QuantizedKVCache(group_size=32, bits=8) for _ in range(3)] for _ in range(2)]
    expected = scores_of(model, 1, caches[0])
    quicken_llamas(model)
    for found, scores in zip(scores_of(model, 1, caches[1]), expected, strict=True):
        assert mx.array_equal(found, scores)


def test_gating_is_that_of_mlx_for_all_numbers() -> None:
    gate = mx.array([-1e30, -200.0, -88.0, -3.0, -1e-6, 0.0, 1e-6, 2.5, 88.0, 200.0, 1e30])
    up = mx.array([3.0, -0.5, 1.0, 7.0, 2.0, 5.0, -2.0, 0.0, 1.0, -1.0, 1e-3])
    assert mx.allclose(swiglu(gate, up), nn.silu(gate) * up, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_quick_gating_is_that_of_the_plain_layer(kind: type[nn.Module], dtype: mx.Dtype) -> None:
    size = (SimpleNamespace(hidden_size=16, intermediate_size=40),) if kind is llama.MLP else (16, 40)
    model = nn.Sequential(kind(*size))
    model.set_dtype(dtype)
    x = mx.random.normal((3, 2, 16)).astype(dtype)
    expected = model(x)
    quicken_gating(model)
    assert type(model.layers[0]) is QUICK[kind]
    assert model(x).dtype == dtype
    assert mx.allclose(model(x), expected, rtol=1e-5, atol=1e-6)


def test_a_model_in_blocks_scores_as_before() -> None:
    plain, config = load_model(embedded.PATH)
    fast, _ = load_model(embedded.PATH)
    for model in (plain, fast):
        model.set_dtype(mx.float32)
    lay_out_for_blas(fast, AVX512)
    tabulate_rotations(fast, config["max_position_embeddings"])
    tokens = mx.array([[5, 9, 300, 12], [7, 7, 100, 1]])
    assert mx.allclose(fast(tokens), plain(tokens), atol=1e-4)
    assert "BlockedEmbedding" in {
        type(layer).__name__ for _, layer in tree_flatten(fast.leaf_modules(), is_leaf=nn.Module.is_module)
    }
