"""What is taken out of texts, and what is not."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, example, given, strategies as st

import abstractllm
from abstractllm import redact
from abstractllm.observing.secrets import is_secret

LETTERS = string.ascii_letters + string.digits
URL_SAFE = LETTERS + "-_"
HEX = "0123456789abcdef"

FORMATS = {
    "openai": ("sk-", LETTERS, 48),
    "openai project": ("sk-proj-", URL_SAFE, 120),
    "openai service": ("sk-svcacct-", URL_SAFE, 120),
    "anthropic": ("sk-ant-api03-", URL_SAFE, 95),
    "openrouter": ("sk-or-v1-", HEX, 64),
    "deepseek": ("sk-", HEX, 32),
    "groq": ("gsk_", LETTERS, 52),
    "xai": ("xai-", LETTERS, 80),
    "google": ("AIza", URL_SAFE, 35),
    "huggingface": ("hf_", LETTERS, 34),
    "replicate": ("r8_", LETTERS, 37),
    "perplexity": ("pplx-", LETTERS, 48),
    "fireworks": ("fw_", LETTERS, 24),
    "together": ("tgp_v1_", URL_SAFE, 43),
    "cerebras": ("csk-", string.ascii_lowercase + string.digits, 48),
    "nvidia": ("nvapi-", URL_SAFE, 64),
    "github": ("ghp_", LETTERS, 36),
    "maritaca": ("100088405021", string.digits, 8, "_", HEX, 16),
    "aws": ("AKIA", string.ascii_uppercase + string.digits, 16),
    "aws session": ("ASIA", string.ascii_uppercase + string.digits, 16),
}
"""How keys of each service look: fixed text, then so many characters of an alphabet, and so on."""

NAMED = {
    "azure header": ("api-key: ", HEX, 32),
    "header": ("x-api-key: ", LETTERS, 40),
    "google header": ('"x-goog-api-key": "', LETTERS, 39),
    "tuple of a header": ("(b'api-key', b'", HEX, 32, "')"),
    "bearer": ("Authorization: Bearer ", URL_SAFE, 40),
    "bare bearer": ("bearer ", HEX, 32),
    "basic": ("authorization: Basic ", LETTERS, 30),
    "header in json": ('{"Authorization": "Bearer ', URL_SAFE, 24, '"}'),
    "query": ("https://a.org/v1?key=", LETTERS, 39, "&alt=sse"),
    "query token": ("https://a.org/v1?a=b&access_token=", LETTERS, 12, "#x"),
    "query password": ("/login?user=me&password=", string.ascii_lowercase, 5),
    "code": ('api_key="', string.ascii_lowercase, 10, '"'),
    "json": ('"password": "', LETTERS + " !#$%", 12, '"'),
    "repr": ("{'client_secret': '", LETTERS, 12, "'}"),
    "json in json": (r"{\"password\": \"", LETTERS, 12, r"\"}"),
    "environment": ("OPENAI_API_KEY=", LETTERS, 20),
    "hump": ("dbPassword=", LETTERS, 8),
    "connection string": ("Server=x;Pwd=", LETTERS, 8, ";Database=y"),
    "yaml": ("password: ", HEX, 24),
    "ini": ("secret = ", HEX, 24),
    "token": ('"token": "', HEX, 32, '"'),
    "aws secret": ("aws_secret_access_key = ", LETTERS + "/+", 40),
    "refused": ("Incorrect API key provided: ", HEX, 32),
    "user info": ("postgres://me:", LETTERS + "!$%^", 9, "@db.example.org/x"),
    "only a password": ("redis://:", LETTERS, 9, "@localhost"),
    "cut off": ('{"api_key": "', LETTERS, 20),
}


def made(form, seed):
    """Return a text of a form and its longest random part."""
    choose, pieces, random_parts = random.Random(seed), [], []
    for number, piece in enumerate(form):
        if isinstance(piece, int):
            random_parts.append("".join(choose.choices(form[number - 1], k=piece)))
            pieces[-1] = random_parts[-1]
        else:
            pieces.append(piece)
    return "".join(pieces), max(random_parts, key=len)


EDGES = st.sampled_from(["", " ", "\n", "\t", '"', "'", "(", "=", ":", ",", "/", "`", "\\n", "%20", "é ", "x: "])
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("name", list(FORMATS))
@given(
    before=st.text(max_size=20),
    edge=EDGES,
    seed=seeds,
    after=st.sampled_from(["", " ", "\n", '"', "'", ")", ",", "\\n"]),
)
def test_no_key_of_a_service_survives(name, before, edge, seed, after):
    text, key = made(FORMATS[name], seed)
    assume(not before or edge or not before[-1].isalnum())
    cleaned = redact(f"{before}{edge}{text}{after} and more")
    assert text not in cleaned
    assert key[-10:] not in cleaned
    assert cleaned.endswith("and more")


@pytest.mark.parametrize("name", list(NAMED))
@given(before=st.sampled_from(["", "sent ", "\n", "{", "warning: ", "é"]), seed=seeds)
def test_nothing_given_to_a_secret_name_survives(name, before, seed):
    text, key = made(NAMED[name], seed)
    assume(any(one.isdigit() for one in key) or name not in ("yaml", "ini", "token", "aws secret"))
    assume(not key.startswith("$"))
    cleaned = redact(f"{before}{text}\nnext line")
    assert key not in cleaned
    assert cleaned.endswith("\nnext line")
    assert "(hidden)" in cleaned


def test_json_web_tokens_and_private_keys_do_not_survive():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"
    assert redact(f"got {token}, fine") == "got (hidden), fine"
    for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "):
        block = f"-----BEGIN {kind}PRIVATE KEY-----\nMIIB\nabcd\n-----END {kind}PRIVATE KEY-----"
        assert redact(f"a\n{block}\nb") == "a\n(hidden)\nb"
        assert redact(json.dumps({"k": block, "l": 1})) == '{"k": "(hidden)", "l": 1}'
        assert redact(f"a {block[:40]}") == "a (hidden)"
    assert "PUBLIC" in redact("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----")


ORDINARY = [
    "The passenger passed the password check, passively; a bypass is in the compass.",
    "Order 12345678, phone 912345678, 2026-11-22, 1732261234567 ms, 0x7f3a9c001122.",
    "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b, request 550e8400-e29b-41d4-a716-446655440000",
    "risk-assessment-for-everyone, task-oriented-dialogue-systems, sk-learn-contrib-packages, disk-usage-of-machines",
    "The bearer authentication scheme and basic understanding of it; Bearer tokens are sent.",
    "Usage(prompt_tokens=12345678, completion_tokens=3), max_tokens=4096, tokens: 1048576",
    'eos_token="<|im_end|>", token=11, first_token=0.523, {"token": "Hello", "logprob": -0.1}, token: TokenLogprob',
    'api_key="...", api_key=None, api_key=<your key>, password=$PASSWORD, "api_key": "***", API_KEY=',
    "def login(password: str, api_key: str | None = None, secret: Secret) -> None:",
    "Client(api_key=get_key(), password=passwords[0], secret=secret)",
    "https://example.org:8080/a/b?page=2&sort=name@host, mailto:me@example.org, git@github.com:a/b.git",
    "ssh://git@example.org/a, http://localhost:11434/v1/models, file:///tmp/a:b@c",
    "hf_model_config_for_everyone, gsk_is_a_prefix, xai-and-other-services, r8_x, AKIA and ASIA, eyJ",
    "PWD=/home/me/work OLDPWD=/tmp",
    "key=value; keys: 12345678; the key word; keyboard=azerty1234; monkey: 123456789",
    '["authorization", "api-key", "x-goog-api-key", "set-cookie"]',
    "",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text):
    assert redact(text) == text


DOCS = Path(abstractllm.__file__).parent.parent / "docs"
PAGES = sorted(
    path for path in DOCS.glob("**/*.md") if path.name != "observability.md"
)  # which shows keys being hidden
MODULES = sorted(Path(abstractllm.__file__).parent.rglob("*.py"))


@pytest.mark.skipif(not PAGES, reason="the docs are not beside the installed package")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_docs_stay_as_they_are(path):
    shown = ("assert redact(", 'api_key="')  # pages show what is taken out, and where a key goes
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not any(one in line for one in shown)]
    assert redact("\n".join(lines)).splitlines() == lines


def test_the_code_stays_as_it_is():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert redact(text).splitlines() == text.splitlines(), path


@given(st.text(alphabet=string.ascii_lowercase + " .,!?\n", max_size=200))
def test_words_stay_as_they_are(text):
    assert redact(text) == text


@given(
    st.lists(
        st.sampled_from(["password", "=", ":", '"', "'", "\\", " ", "api_key", "Bearer ", "sk-", "A1", "(hidden)", "?"])
    )
)
@example(['"password": "', "a\\", '"', 'b"'])
def test_a_clean_text_is_clean(pieces):
    once = redact("".join(pieces))
    assert redact(once) == once


def test_a_quoted_value_goes_to_its_end():
    assert redact(r'{"password": "a\"b, c", "user": "me"}') == '{"password": "(hidden)", "user": "me"}'


LOOK_FOR_KEY = """
import gc, random, string
from abstractllm import redact
key = "sk-" + "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=48))
redact(f"got {key}")
holders = [one for one in gc.get_objects() if isinstance(one, (dict, list)) and one is not globals()]
values = [value for one in holders for value in (one.values() if isinstance(one, dict) else one)]
raise SystemExit(any(isinstance(value, str) and key in value for value in values))
"""


def test_nothing_remembers_what_it_has_seen():
    """In a process of its own, where nothing else holds a million objects to look through."""
    assert subprocess.run([sys.executable, "-c", LOOK_FOR_KEY], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("api_key", "hunter2", True),
        ("x-api-key", "hunter2", True),
        ("Authorization", "hunter2", True),
        ("clientSecret", "hunter2", True),
        ("token", "0123456789abcdef", True),
        ("token", "Hello", False),
        ("max_tokens", "4096", False),
        ("api_key", "<your key>", False),
        ("passenger", "hunter2", False),
    ],
)
def test_names_of_fields(name, value, secret):
    assert is_secret(name, value) is secret
