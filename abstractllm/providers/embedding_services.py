"""What services of OpenAI's format have for embeddings, one constant each. Knows no provider.

`size` counts bytes, of which every token has at least one: where a limit of tokens is known, `size` keeps it whatever
the texts are. Where a source states no limit, batches are small: they are sent at once, so little is lost by it.
"""

from __future__ import annotations

from abstractllm.providers.embedding import EmbeddingService

OPENAI = EmbeddingService(
    "platform.openai.com, Create embeddings: at most 2048 inputs and 300,000 tokens; float or base64.",
    inputs=2048,
    size=300_000,
    model="text-embedding-3-small",
    base64=True,
    options=frozenset({"user"}),
)

AZURE = EmbeddingService(
    "learn.microsoft.com, Foundry REST reference, Create an embedding: OpenAI's limits and formats; the model is the"
    " name of a deployment, which nobody else can know.",
    inputs=2048,
    size=300_000,
    base64=True,
    options=frozenset({"user"}),
    known=None,
)

MISTRAL = EmbeddingService(
    "docs.mistral.ai/api/endpoint/embeddings: output_dimension. Its limits are not stated there; users measured that"
    " 257 inputs (crate rig-core 0.42, providers/mistral/embedding.rs) or more than 65,536 tokens are refused.",
    inputs=256,
    size=60_000,
    model="mistral-embed",
    dimensions="output_dimension",
)

TOGETHER = EmbeddingService(
    "together-python, types/embeddings.py: input and model alone, no usage in the answer. No limit is stated.",
    inputs=100,
    size=300_000,
    dimensions=None,
)

FIREWORKS = EmbeddingService(
    "docs.fireworks.ai, Create embeddings: dimensions, normalize, prompt_template; no other fields, so no base64. At"
    " most 2048 inputs are stated there, and other clients send far fewer.",
    inputs=128,
    size=300_000,
    options=frozenset({"normalize", "prompt_template"}),
)

GEMINI = EmbeddingService(
    "ai.google.dev/gemini-api/docs/openai, Embeddings: input and model; whether dimensions was kept, the answer shows."
    " Users measured that more than 100 inputs are refused, and that base64 was.",
    inputs=100,
    model="gemini-embedding-001",
)

OPENROUTER = EmbeddingService(
    "openrouter.ai/docs, Create embeddings: dimensions, provider, user, input_type. The limits are those of the"
    " services behind it, of which the smallest that are known are Gemini's and Mistral's.",
    inputs=100,
    size=60_000,
    options=frozenset({"provider", "user", "input_type"}),
)

GROQ = EmbeddingService(
    "groq-python, types/embedding_create_params.py: at most 2048 inputs, encoding_format and user, no dimensions. Which"
    " models there are is for the service to say.",
    inputs=256,
    size=300_000,
    dimensions=None,
    base64=True,
    options=frozenset({"user"}),
    known=None,
)

VLLM = EmbeddingService(
    "docs.vllm.ai, Embeddings API, and vllm/entrypoints/openai/serving_embedding.py: base64 and dimensions as OpenAI's;"
    " the texts of a request are scheduled one by one, without a limit of their number.",
    inputs=256,
    at_once=8,
    needs_model=False,
    base64=True,
    options=frozenset({"user", "truncate_prompt_tokens", "add_special_tokens", "priority"}),
    known=None,
)

LMSTUDIO = EmbeddingService(
    "lmstudio.ai/docs, OpenAI compatibility, Embeddings: input and model are all that it says, and no limit.",
    at_once=2,
    dimensions=None,
    known=None,
)

ANY = EmbeddingService(
    "The format itself. A server that is not known gets the fields that all servers of this format are known to take.",
    needs_model=False,
    options=frozenset({"user"}),
    known=None,
)
