"""Meaningless texts that teach copying and looking up at the very start of training."""

from .words import Words

Turn = dict[str, str]


def _value(words: Words) -> str:
    maker = words.pick((words.invented, words.invented, words.code, words.phrase, words.noun, words.city, words.foreign, words.email, words.date))
    return maker()


def repetition(words: Words) -> list[Turn]:
    """Random words and their repetition."""
    text = " ".join(_value(words) for _ in range(words.rng.randint(2, 12)))
    return [{"role": "user", "content": text}, {"role": "assistant", "content": text}]


def lookup(words: Words) -> list[Turn]:
    """A compact JSON object, and values looked up by key, several times."""
    keys = list({words.identifier() if words.chance(0.5) else words.noun() for _ in range(words.rng.randint(2, 7))})
    table = {key: words.integer() if words.chance(0.3) else _value(words) for key in keys}
    body = ",".join(f'"{key}":' + (str(value) if isinstance(value, int) else f'"{value}"') for key, value in table.items())
    messages: list[Turn] = [{"role": "system", "content": "{" + body + "}"}]
    for _ in range(words.rng.randint(2, 6)):
        key = words.pick(keys)
        value = table[key]
        answer = f'{{"{key}":{value}}}' if isinstance(value, int) else f'{{"{key}":"{value}"}}'
        messages += [{"role": "user", "content": key}, {"role": "assistant", "content": answer}]
    return messages
