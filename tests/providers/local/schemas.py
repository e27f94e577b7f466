"""Random JSON Schemas that the grammar engine can enforce, and random answers within a constraint."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from abstractllm.providers.local.constraint import Constraint

NAMES = ("a", "name", "größe", "日本", "a b", 'q"t', "back\\slash", "😀", "x-y", "")
PATTERNS = ("^[a-z]{1,4}$", "^(red|green)$", "^[A-Z][0-9]{2}$", "^é?ü$", "ab|cd", "^[^x]{2,3}$")
TEXTS = ("", "red", "ünï", "日本", 'a"b', "\n\t", "\\", "😀")
NUMBERS = (-1000, -3, -0.5, 0, 0.25, 1, 7, 100, 12345, 10**15)
CLOSERS = b'"}],'


class SchemaMaker:
    """Makes one schema. References go to definitions, which may refer to themselves where that can end."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._number = self._random.randint(0, 3)

    def make(self) -> dict[str, Any]:
        """Return a schema with its definitions."""
        schema = self._schema(3)
        if not self._number:
            return schema
        definitions = {f"d{number}": self._definition(f"d{number}") for number in range(self._number)}
        return {**schema, "$defs": definitions}

    def _schema(self, depth: int) -> dict[str, Any]:
        plain = [self._string, self._number_range, self._literal, self._simple]
        nested = [self._object, self._object, self._array, self._choice, self._tuple, self._map]
        if self._number:
            plain.append(self._reference)
        kind = self._random.choice(plain if depth == 0 else plain + nested)
        return kind(depth) if kind in nested else kind()

    def _definition(self, name: str) -> dict[str, Any]:
        kind = self._random.randrange(3)
        if kind == 0:
            return {"type": "object", "properties": {"leaf": self._simple()}, "required": ["leaf"]}
        tree = {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, "maxItems": 2}
        if kind == 1:
            return {"type": "object", "properties": {"label": self._string(), "more": tree}, "required": ["label"]}
        return {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"next": {"$ref": f"#/$defs/{name}"}}}]}

    def _reference(self) -> dict[str, Any]:
        return {"$ref": f"#/$defs/d{self._random.randrange(self._number)}", "description": "elsewhere"}

    def _simple(self) -> dict[str, Any]:
        return {"type": self._random.choice(["boolean", "null", "integer", "number", ["integer", "null"]])}

    def _literal(self) -> dict[str, Any]:
        values = [*TEXTS, 3, -7, 2.5, None, True, ["x", 1], {"é": [None]}]
        if self._random.random() < 0.3:
            return {"const": self._random.choice(values)}
        return {"enum": self._random.sample(values, self._random.randint(1, 4))}

    def _string(self) -> dict[str, Any]:
        kind = self._random.randrange(4)
        if kind == 0:
            return {"type": "string", "pattern": self._random.choice(PATTERNS), "maxLength": 12}
        if kind == 1:
            return {"type": "string", "format": self._random.choice(["date", "uuid", "ipv4", "time"])}
        least = self._random.randint(0, 4)
        return {"type": "string", "minLength": least, "maxLength": least + self._random.randint(0, 8)}

    def _number_range(self) -> dict[str, Any]:
        least, most = sorted(self._random.sample(NUMBERS, 2))
        kind = self._random.choice(["integer", "number"])
        if kind == "integer":
            least, most = int(least) - 1, int(most) + 8
        bounds = {"minimum": least, "maximum": most}
        if self._random.random() < 0.4 and not -1 < least < 0:
            bounds = {"exclusiveMinimum": least, "exclusiveMaximum": most}
        if kind == "integer" and self._random.random() < 0.3:
            bounds["multipleOf"] = self._random.randint(1, 4)
        return {"type": kind, **bounds}

    def _object(self, depth: int) -> dict[str, Any]:
        names = self._random.sample(NAMES, self._random.randint(0, 4))
        schema = {"type": "object", "properties": {name: self._schema(depth - 1) for name in names}}
        schema["required"] = [name for name in names if self._random.random() < 0.6]
        if self._random.random() < 0.5:
            schema["additionalProperties"] = False
        return schema

    def _map(self, depth: int) -> dict[str, Any]:
        inner = self._schema(depth - 1)
        if self._random.random() < 0.5:
            return {"type": "object", "patternProperties": {"^[a-c]{1,3}$": inner}, "maxProperties": 2}
        return {"type": "object", "propertyNames": {"enum": ["é", "b"]}, "additionalProperties": inner}

    def _array(self, depth: int) -> dict[str, Any]:
        least = self._random.randint(0, 2)
        return {
            "type": "array",
            "items": self._schema(depth - 1),
            "minItems": least,
            "maxItems": least + self._random.randint(0, 2),
        }

    def _tuple(self, depth: int) -> dict[str, Any]:
        items = [self._schema(depth - 1) for _ in range(self._random.randint(1, 3))]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}

    def _choice(self, depth: int) -> dict[str, Any]:
        if self._random.random() < 0.3:
            tagged = [self._object(depth) for _ in range(2)]
            for number, option in enumerate(tagged):
                option["properties"] = {"kind": {"const": f"k{number}"}, **option["properties"]}
                option["required"] = ["kind", *option["required"]]
            return {"oneOf": tagged}
        return {"anyOf": [self._schema(depth - 1) for _ in range(2)], "title": "Either"}


def tokens_in(mask: np.ndarray) -> list[int]:
    """Return the tokens of a mask."""
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


class Walker:
    """Writes random answers. Half of the choices are among tokens that may close something, so that answers end."""

    def __init__(self, texts: list[bytes], words: int, stops: set[int]) -> None:
        self.texts = texts
        self.mask = np.zeros(words, dtype=np.uint32)
        self._stops = stops
        self._closers = np.array([any(byte in CLOSERS for byte in text) for text in texts])

    def allowed(self, constraint: Constraint) -> list[int]:
        """Return the tokens that may come next."""
        constraint.fill(self.mask)
        return tokens_in(self.mask)

    def walk(self, constraint: Constraint, random: Random, most: int = 1500) -> list[int]:
        """Return the tokens of an answer, without the stop token, and move the constraint to its end."""
        tokens: list[int] = []
        while not constraint.finished:
            assert len(tokens) < most, self.text(tokens)
            possible = self.allowed(constraint)
            closing = [token for token in possible if self._closers[token]]
            token = random.choice(closing if closing and random.random() < 0.5 else possible)
            if token in self._stops or (constraint.complete and random.random() < 0.5):
                break
            constraint.accept(token)
            tokens.append(token)
        return tokens

    def text(self, tokens: list[int]) -> str:
        """Return what tokens say."""
        return b"".join(self.texts[token] for token in tokens).decode()
