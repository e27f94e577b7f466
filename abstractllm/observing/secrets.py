r"""What keys, tokens and passwords look like in text, and text without them. Knows no logging and keeps nothing.

Two kinds of things are secrets: what has the form of one service's keys, wherever it stands, and what is given to a
name such as `api_key`, whatever it looks like. Where a name also means something else ("token" is a word of ours), its
value must look random. A key that is known is better hidden by `providers.http.Secret`, which needs no guess; and
`wire.failure_bodies` takes more out of the short texts in which services echo keys than a log could do without, such as
every long row of letters and digits.

Every pattern takes time in proportion to the text: none begins to look at a place that another try has already read
but for a bounded number of characters.
"""

from __future__ import annotations

import re

HIDDEN = "(hidden)"
"""What stands in the place of a secret; the same as in messages of providers."""

_LEFT = r"(?:(?<![A-Za-z0-9])|(?<=\\[abfnrtv])|(?<=%[0-9A-Fa-f]{2}))"
"""Where a word begins, also after an escape such as the two characters of `\n` in a repr, or `%20`."""

_MIXED = r"(?=[a-z_-]{0,200}[A-Z0-9]|[a-z]{32})"
"""Ahead is a digit, a capital or a very long word, as random characters have and `sk-learn-contrib` has not."""

_FORMATS = (
    rf"sk-{_MIXED}[A-Za-z0-9_-]{{16,}}",  # OpenAI (also sk-proj-), Anthropic (sk-ant-), DeepSeek, OpenRouter (sk-or-)
    rf"gsk_{_MIXED}[A-Za-z0-9]{{20,}}",  # Groq
    rf"xai-{_MIXED}[A-Za-z0-9]{{20,}}",
    r"AIza[A-Za-z0-9_-]{30,}",  # Google
    rf"hf_{_MIXED}[A-Za-z0-9]{{20,}}",  # Hugging Face
    rf"r8_{_MIXED}[A-Za-z0-9]{{20,}}",  # Replicate
    rf"pplx-{_MIXED}[A-Za-z0-9]{{20,}}",  # Perplexity
    rf"(?:csk|nvapi)-{_MIXED}[A-Za-z0-9_-]{{20,}}",  # Cerebras, NVIDIA
    rf"fw_{_MIXED}[A-Za-z0-9]{{20,}}",  # Fireworks
    rf"tgp_v1_{_MIXED}[A-Za-z0-9_-]{{20,}}",  # Together
    r"gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}",
    r"\d{10,40}_[0-9a-f]{12,}",  # Maritaca
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS, the key's id
    r"eyJ[A-Za-z0-9_-]{6,8000}\.eyJ[A-Za-z0-9_-]{6,8000}(?:\.[A-Za-z0-9_-]*){1,3}",  # a JSON Web Token
)

_PRIVATE_KEY = re.compile(
    r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----(?:.*?-----END \1-----|.*)", re.DOTALL
)
_KEY = re.compile(_LEFT + "(?:" + "|".join(_FORMATS) + ")")
_USER_INFO = re.compile(r"""(?<=://)[^\s/?#:@"'<>]*:[^\s/?#"'<>]*@""")

_NAME = (
    r"(?:secret[_-]?access[_-]?key|(?:access|auth|bearer|id|refresh|security|session)[_-]?token"
    r"|(?:account|api|private|secret|subscription)[ _-]?key|client[_-]?secret|passphrase|password|passwd|pwd|secret)"
)
_NAMED = rf"(?:{_LEFT}|(?-i:(?<=[a-z])(?=[A-Z])))(?P<name>{_NAME})"
"""A name that means a secret: alone, behind `_` or `-` (OPENAI_API_KEY), or as a hump (dbPassword)."""

_QUOTE = r"\\{0,8}[\"']"
_ENDS = r"(?=[\s\"'`,;&)}\]<>|\\]|$)"
_BARE = r"[^\s\"'`,;&(){}\[\]<>|\\]"
_RANDOM = r"(?=[A-Za-z._~+/=-]{0,200}\d)"

_QUOTED_VALUE = re.compile(
    rf"{_NAMED}(?:{_QUOTE})?\s{{0,9}}[:=]>?\s{{0,9}}b?(?P<quote>{_QUOTE})"
    r"(?P<value>(?:(?!(?P=quote))(?:\\.|[^\\\r\n]))+)",
    re.IGNORECASE,
)
_HEADER_PAIR = re.compile(
    rf"[(\[]\s{{0,9}}b?{_QUOTE}(?:[\w-]{{0,40}}-)?(?P<name>api-key|authorization){_QUOTE}\s{{0,9}},\s{{0,9}}b?{_QUOTE}"
    rf"(?P<value>[^\"'\r\n]+){_QUOTE}\s{{0,9}}[)\]]",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(rf"{_NAMED}=(?P<value>{_BARE}{{4,}}){_ENDS}", re.IGNORECASE)
_SAID = re.compile(
    rf"{_NAMED}(?: provided)?(?:{_QUOTE})?\s{{0,9}}[:=]\s{{0,9}}"
    rf"(?P<value>(?=[^\s\d]{{0,200}}\d|\S{{24}}){_BARE}{{6,}}){_ENDS}",
    re.IGNORECASE,
)
_QUERY = re.compile(
    r"[?&;](?:amp;)?(?P<name>auth|[\w-]{0,40}token|sig|signature|[\w-]{0,40}(?:password|secret)|key(?=.{8}))"
    r"=(?P<value>[^\s&#\"'`<>\\()]+)",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    rf"{_LEFT}token(?:{_QUOTE})?\s{{0,9}}[:=]\s{{0,9}}(?:{_QUOTE})?(?P<value>{_RANDOM}[A-Za-z0-9._~+/=-]{{12,}})",
    re.IGNORECASE,
)
_BEARER = re.compile(
    rf"{_LEFT}bearer\s{{1,9}}(?P<value>(?:{_RANDOM}|(?=\S{{24}}))[A-Za-z0-9._~+/=-]{{8,}})", re.IGNORECASE
)
_AUTHORIZATION = re.compile(
    rf"authorization(?:{_QUOTE})?\s{{0,9}}[:=]\s{{0,9}}b?(?:{_QUOTE})?(?:apikey|api-key|basic|bearer|digest|token)\s{{1,9}}"
    r"(?P<value>[^\s\"'`,;<>()\\]{4,})",
    re.IGNORECASE,
)
_VALUES = (_QUOTED_VALUE, _HEADER_PAIR, _AUTHORIZATION, _BEARER, _ASSIGNED, _SAID, _QUERY, _TOKEN)

_PLACEHOLDER = re.compile(
    r"""[.*…xX_-]+|<[^<>]*>|\$\{?\w+\}?|%\(\w+\)s|%s|\(hidden\).*|none|null|true|false|undefined"""
    r"""|(?:my|your)[ _-](?:[a-z]+[ _-]){0,3}(?:key|password|secret|token)(?:[ _-]here)?""",
    re.IGNORECASE | re.DOTALL,
)
"""What stands where a secret would: `...`, `<your key>`, `your-api-key`, `$KEY`, `None`."""


def redact(text: str) -> str:
    """Return a text with every secret that is found in it replaced by `(hidden)`; other text stays as it is.

    Found are keys of the services by their form, private keys, JSON Web Tokens, user names with passwords in addresses,
    and what is given to names such as `api_key`, `password` or `Authorization`: in JSON, in headers, in queries and in
    code. A secret without a known form and without a name beside it is not found.
    """
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _USER_INFO.sub(f"{HIDDEN}@", text)
    text = _KEY.sub(HIDDEN, text)
    for pattern in _VALUES:
        text = pattern.sub(_without_value, text)
    return text


def is_secret(name: str, value: str) -> bool:
    """Whether a value that is given to this name is a secret: a header's, a setting's, a field's of a log record."""
    if name.lower() == "token":
        return _TOKEN.fullmatch(f"token={value}") is not None
    return _WHOLE_NAME.search(name) is not None and not _PLACEHOLDER.fullmatch(value)


_WHOLE_NAME = re.compile(rf"(?:{_NAMED}|{_LEFT}authorization)$", re.IGNORECASE)


def _without_value(found: re.Match[str]) -> str:
    value, name = found["value"], found.groupdict().get("name", "").lower()
    if _PLACEHOLDER.fullmatch(value) or value.lower() == name or (name == "pwd" and value.startswith("/")):
        return found[0]  # nothing, code such as password=password, or the folder that shells call PWD
    start = found.start("value") - found.start()
    return found[0][:start] + HIDDEN + found[0][start + len(value) :]
