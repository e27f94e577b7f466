"""Fields taken from a text into JSON that fits a schema, and schemas to fill freely (a joke)."""

import json
from typing import Any

from .schemas import STYLES, Parameter, new_parameter, object_schema
from .tools import clause
from .words import JOBS, Words

Message = dict[str, Any]

PERSON_TEXTS = (
    "{name} is {age} years old.", "{name} is {age} years old and lives in {city}.", "My name is {name} and I am {age}.", "{name}, {age}, lives in {city}.", "I met {name}, who is {age} and works as a {job} in {city}.",
    "{name} works as a {job}.", "{name} ({age}) can be reached at {email}.", "This is {name} from {city}.", "{name} lives in {city} and is {age} years old.", "Contact {name} at {email}.",
    "{name}, a {job} from {city}, is {age} years old.", "The {job} {name} turned {age} in {city}.", "{name} tem {age} anos e mora em {city}.", "{name} trabalha como {job} em {city}.",
)  # fmt: skip
ORDER_TEXTS = (
    "{customer} ordered {quantity} {item} for {price} {currency}.", "Order {code}: {quantity} {item}, customer {customer}.", "{customer} bought {quantity} {item} on {date}.", "On {date} we sold {quantity} {item} to {customer} for {price} {currency}.",
    "The {item} costs {price} {currency}.", "{quantity} {item} will be sent to {city} on {date}.", "{customer} comprou {quantity} {item} por {price} {currency}.",
)  # fmt: skip
EVENT_TEXTS = (
    'The event "{title}" takes place in {city} on {date} at {time}.', "{title}, {city}, {date}, {time}", "Join us for {title} on {date} in {city}.", "{person} invites you to {title} at {time} on {date}.", "{title} starts at {time}.",
)  # fmt: skip
ALIASES = {
    "name": ("name", "full_name", "person", "person_name"), "age": ("age", "years", "age_in_years"), "city": ("city", "location", "town", "place"), "job": ("job", "profession", "occupation"), "email": ("email", "mail", "email_address"),
    "customer": ("customer", "buyer", "client"), "quantity": ("quantity", "count", "amount"), "item": ("item", "product"), "price": ("price", "cost", "total"), "currency": ("currency", "currency_code"), "code": ("order_id", "code", "number"),
    "date": ("date", "day"), "title": ("title", "event", "event_name"), "time": ("time", "start_time"), "person": ("host", "organizer", "person"),
}  # fmt: skip
REQUESTS = (
    "Extract the fields from the text as JSON.", "Extract {n} from the text.", "Return JSON that matches the schema.", "Fill this JSON schema from the text.", "Answer with a JSON object that follows this schema.", "Read the text and return only JSON.",
    "Extract the information and answer in JSON.", "Extraia os campos do texto como JSON.",
)  # fmt: skip
JOKES = (
    ("Why did the cat sit on the computer?", "To keep an eye on the mouse."), ("Why was the math book sad?", "It had too many problems."), ("What do you call a bear with no teeth?", "A gummy bear."),
    ("Why did the chicken cross the road?", "To get to the other side."), ("What is orange and sounds like a parrot?", "A carrot."), ("Why do bees have sticky hair?", "They use honeycombs."),
)  # fmt: skip


def story(words: Words) -> tuple[str, list[Parameter]]:
    """A sentence or two and the fields that it tells."""
    text_of = words.pick((PERSON_TEXTS, PERSON_TEXTS, ORDER_TEXTS, EVENT_TEXTS))
    template = words.pick(text_of)
    values: dict[str, Any] = {
        "name": words.person(), "age": words.rng.randint(1, 99), "city": words.city(), "job": words.choose(JOBS), "email": words.email(), "customer": words.person(), "quantity": words.rng.randint(2, 200), "item": words.noun(),
        "price": words.decimal(), "currency": words.pick(("USD", "EUR", "BRL", "GBP", "dollars", "euros")), "code": words.code(), "date": words.date(), "title": words.phrase(), "time": words.time(), "person": words.first_name(),
    }  # fmt: skip
    types = {"age": "integer", "quantity": "integer", "price": "number"}
    told = [key for key in values if "{" + key + "}" in template]
    fields = [Parameter(words.pick(ALIASES[key]), key, {"type": types.get(key, "string")}, values[key]) for key in told]
    return template.format(**values), fields


def made_up_story(words: Words) -> tuple[str, list[Parameter]]:
    """Named fields of any kind in one line."""
    taken: set[str] = set()
    fields = [new_parameter(words, taken, "plain") for _ in range(words.rng.randint(1, 5))]
    style, separator = words.rng.randrange(9), words.pick(("; ", ", ", "\n", ". "))
    return separator.join(clause(field, words, style, False) for field in fields), fields


def extraction_turns(words: Words, portuguese: bool) -> list[Message]:
    """A schema and a text, in the system prompt or in the question, and the JSON object."""
    if words.chance(0.05):
        return joke_turns(words)
    text, fields = story(words) if words.chance(0.6) else made_up_story(words)
    if len(fields) > 1 and words.chance(0.5):
        fields = words.rng.sample(fields, words.rng.randint(1, len(fields)))
    style = words.pick(STYLES)
    schema = object_schema(fields, style, words.pick(("Person", "Order", "Event", "Record", "Item", words.invented().title())))
    answer = json.dumps({field.name: field.value for field in fields}, ensure_ascii=False, separators=(",", ":"))
    separators = (",", ":") if words.chance(0.7) else (", ", ": ")
    rule = words.pick(REQUESTS).format(n=" and ".join(field.name.replace("_", " ") for field in fields))
    shown = json.dumps(schema, ensure_ascii=False, separators=separators)
    label = words.pick(("Schema: ", "JSON schema: ", "", "Answer in JSON that fits this schema: "))
    if words.chance(0.4):
        return [{"role": "system", "content": f"{rule}\n{label}{shown}"}, {"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    parts = [f"{rule}\n{label}{shown}", words.pick(("Text: ", "", "")) + text]
    if words.chance(0.3):
        parts.reverse()
    return [{"role": "user", "content": "\n".join(parts)}, {"role": "assistant", "content": answer}]


def joke_turns(words: Words) -> list[Message]:
    """A joke with the fields setup and punchline."""
    setup, punchline = words.pick(JOKES)
    fields = [Parameter("setup", "text", {"type": "string"}, setup, "The setup of the joke"), Parameter("punchline", "text", {"type": "string"}, punchline, "The punchline to the joke")]
    shown = json.dumps(object_schema(fields, words.pick(STYLES), "Joke"), separators=(",", ":"))
    question = words.pick(("Tell me a joke about {n}.", "A joke, please.", "Make a joke about {n}.")).format(n=words.noun())
    answer = json.dumps({"setup": setup, "punchline": punchline}, separators=(",", ":"))
    return [{"role": "system", "content": "Answer in JSON that fits this schema: " + shown}, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
