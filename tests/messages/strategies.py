"""Any message there can be, also one that no provider takes."""

from hypothesis import strategies as st

from abstractllm.types import DocumentPart, ImagePart, Message, TextPart, ToolCall

texts = st.text(max_size=10)
keys = texts | st.sampled_from(["$bytes", "$dict", "$items", "$other"])
long = st.sampled_from([2048, 16_000]).map(lambda bits: -(2**bits))
scalars = st.none() | st.booleans() | st.integers() | long | st.floats(allow_nan=False) | texts
odd_scalars = scalars | st.binary(max_size=5)
odd_keys = keys | st.integers() | st.booleans() | st.tuples(texts, st.binary(max_size=2))
values = st.recursive(
    odd_scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(odd_keys, inner, max_size=3)
    ),
    max_leaves=8,
)
mappings = st.dictionaries(keys, values, max_size=3)
addresses = st.sampled_from(["https://x.org/a", "data:image/png;base64,YQ==", "file", ""]) | texts
media_types = st.sampled_from(["image/png", "image/", "application/pdf", "text/a;b", "a,b", ""]) | texts
files = {"data": st.binary(max_size=8), "media_type": media_types, "name": st.none() | texts}
parts = (
    st.builds(TextPart, texts, st.none() | texts)
    | st.builds(ImagePart, **files, url=st.none() | addresses)
    | st.builds(DocumentPart, **files, url=st.none() | addresses)
)
calls = st.builds(
    ToolCall, texts, texts, mappings, invalid=st.none() | texts | st.sampled_from(["{}", '{"a": 1}', '{"a":', " "])
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    texts | st.lists(parts, max_size=4).map(tuple),
    name=st.none() | texts,
    tool_calls=st.lists(calls, max_size=3).map(tuple),
    tool_call_id=st.none() | texts,
    reasoning=st.none() | texts,
    provider_data=st.none() | mappings,
)
