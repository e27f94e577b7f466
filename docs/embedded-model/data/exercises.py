"""Echo, repeat, count and list."""

from typing import Any

from .words import ANIMALS, COLOURS, DAYS, FOODS, MONTHS, Words

Message = dict[str, Any]
LISTS = {"days of the week": DAYS, "months": MONTHS, "months of the year": MONTHS, "primary colours": ("red", "yellow", "blue"), "seasons": ("spring", "summer", "autumn", "winter"), "vowels": ("a", "e", "i", "o", "u")}


def exercise(words: Words, portuguese: bool) -> tuple[str, str]:
    """A question and its answer."""
    roll = words.rng.random()
    if roll < 0.45:
        text = words.pick((words.phrase, words.sentence, words.noun, words.invented, words.foreign, words.person, words.code))()
        if words.chance(0.15):
            text += " " + words.pick("😀😂😍🤖🚀🌍🔥🎉🍕🐱🐶🌸⭐❤👍✅🎵📚🏠")
        forms = ("Repita: {t}", 'Diga "{t}"', "Repita depois de mim: {t}") if portuguese else ("Repeat: {t}", "Say {t}", 'Say "{t}"', "Repeat after me: {t}", "Echo: {t}", 'Repeat "{t}"', "echo {t}", 'Please say "{t}".', "Reply with: {t}", "Just answer: {t}", "Say exactly: {t}")
        return words.pick(forms).format(t=text), text
    if roll < 0.7:
        start = words.pick((1, 1, 1, words.rng.randint(0, 30)))
        end = start + words.rng.randint(1, 12)
        forms = ("Conte de {a} até {b}", "Conte de {a} a {b}.") if portuguese else ("Count from {a} to {b}", "Count from {a} to {b}.", "Please count from {a} to {b}", "List the numbers from {a} to {b}")
        return words.pick(forms).format(a=start, b=end), ", ".join(str(i) for i in range(start, end + 1))
    if roll < 0.8:
        name = words.pick(sorted(LISTS))
        return words.pick(("List the {n}", "Name the {n}", "What are the {n}?", "Tell me the {n}")).format(n=name), ", ".join(LISTS[name])
    items = [words.noun() for _ in range(words.rng.randint(2, 5))] if words.chance(0.7) else [words.pick(words.pick((ANIMALS, COLOURS, FOODS))) for _ in range(words.rng.randint(2, 5))]
    if roll < 0.9:
        return words.pick(("How many items: {t}?", "Count these: {t}", "How many words: {t}?")).format(t=", ".join(items)), str(len(items))
    first = words.chance(0.5)
    return f"What is the {'first' if first else 'last'} of these: {', '.join(items)}?", items[0 if first else -1]


def exercise_turns(words: Words, portuguese: bool) -> list[Message]:
    """One to four exercises."""
    messages: list[Message] = []
    for _ in range(words.rng.randint(1, 4)):
        question, answer = exercise(words, portuguese)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages
