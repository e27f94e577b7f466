"""Parameters: names, JSON schemas in the styles of pydantic, LangChain and by hand, and values that fit.

A ``Parameter`` carries its own value, so that a question and the call that answers it are made from one object.
"""

from dataclasses import dataclass, field
from typing import Any

from .words import COLOURS, COUNTRIES, CURRENCIES, DAYS, FOODS, JOBS, LANGUAGES, MONTHS, THINGS, Words, is_held_out

# name, kind, description
LEXICON: tuple[tuple[str, str, str], ...] = tuple(
    (name.strip(), kind, description)
    for kind, description, names in (
        ("city", "Name of the city", "city, location, place, town, destination, origin, departure_city, arrival_city, hometown"),
        ("country", "The country", "country, nation, region, country_name"),
        ("person", "Name of the person", "name, person, customer, author, user, owner, recipient, sender, guest, contact, full_name, patient, employee, player"),
        ("phrase", "Words to look for", "query, title, topic, subject, keyword, search, label, project, question, text, theme, term"),
        ("sentence", "The text to use", "message, body, content, note, comment, reason, summary, description, caption"),
        ("noun", "Name of the item", "item, product, category, word, object, tag, keyword, ingredient, subject_area, kind"),
        ("int", "How many", "count, limit, number, quantity, max_results, page, guests, seats, size, n, retries, level, rank"),
        ("int", "A whole number", "a, b, x, y, value, input, age, year, score, port, width, height, duration, minutes, days, steps, index, total"),
        ("decimal", "A number", "amount, price, weight, rate, temperature, latitude, longitude, distance, ratio, balance, budget, tax, speed, factor"),
        ("bool", "Whether to do so", "urgent, verbose, dry_run, notify, recursive, active, include_details, public, force, confirmed, archived, enabled"),
        ("date", "Date in the form YYYY-MM-DD", "date, start_date, end_date, due_date, birthday, check_in, check_out, day, deadline, since"),
        ("time", "Time in the form HH:MM", "time, start_time, alarm, hour, departure, end_time"),
        ("email", "E-mail address", "email, to, address, cc, recipient_email, from_email"),
        ("code", "The identifier", "id, order_id, code, ticket, flight, reference, user_id, account, sku, room, invoice_id, serial, zip"),
        ("path", "Path of the file", "path, file, filename, source, target, output, folder, input_file"),
        ("url", "Web address", "url, link, website, endpoint, homepage"),
        ("language", "The language", "language, target_language, lang, locale, source_language"),
        ("currency", "Currency code", "currency, from_currency, to_currency, base, target_currency"),
        ("colour", "The colour", "color, colour, background, paint"),
        ("weekday", "Day of the week", "weekday, day_of_week"),
        ("job", "The job", "job, profession, role, occupation, position"),
        ("enum", "One of the choices", "unit, mode, status, priority, format, order, type, size_class, method, style, severity, plan, direction"),
        ("array", "A list", "tags, items, names, numbers, values, ids, keywords, cities, ingredients, recipients, guests_list, colors"),
        ("object", "Details", "options, filters, contact_info, details, settings, person_data, shipping, config, metadata"),
    )
    for name in names.split(",")
)  # fmt: skip

NESTED = tuple(entry for entry in LEXICON if entry[1] in ("array", "object"))

ENUMS = (
    ("celsius", "fahrenheit"), ("metric", "imperial"), ("low", "medium", "high"), ("open", "closed", "pending"), ("asc", "desc"), ("json", "csv", "xml"),
    ("small", "medium", "large"), ("fast", "slow"), ("email", "sms", "phone"), ("draft", "final"), ("basic", "premium", "gold"), ("north", "south", "east", "west"),
    ("add", "subtract", "multiply", "divide"), ("daily", "weekly", "monthly"), ("info", "warning", "error"), ("km", "miles"), ("car", "train", "bus", "plane"),
)  # fmt: skip

JSON_TYPES = {"int": "integer", "decimal": "number", "bool": "boolean"}


@dataclass
class Parameter:
    """One parameter: ``schema`` is its JSON schema, ``value`` an argument that fits it."""

    name: str
    kind: str
    schema: dict[str, Any]
    value: Any
    description: str = ""
    required: bool = True
    parts: list["Parameter"] = field(default_factory=list)

    def renew(self, words: Words) -> None:
        """Another value that fits; an array's only part says what its items are, an object's parts are its fields."""
        for part in self.parts:
            part.renew(words)
        if self.kind == "enum":
            self.value = words.pick(self.schema["enum"])
        elif self.kind == "array":
            self.value = [value_of(self.parts[0].kind, words) for _ in range(words.rng.randint(1, 4))]
        elif self.kind == "object":
            self.value = {part.name: part.value for part in self.parts}
        else:
            self.value = value_of(self.kind, words)


def value_of(kind: str, words: Words) -> Any:
    """A random value of a scalar kind."""
    lists = {"country": COUNTRIES, "language": LANGUAGES, "currency": CURRENCIES, "colour": COLOURS, "weekday": DAYS, "month": MONTHS, "job": JOBS, "food": FOODS, "thing": THINGS}
    if kind in lists:
        return words.choose(lists[kind])
    if kind == "int":
        return words.integer()
    if kind == "bool":
        return words.chance(0.5)
    if kind in ("phrase", "sentence", "noun", "person") and words.chance(0.08):
        return words.foreign()
    makers = {
        "city": words.city, "person": words.person, "phrase": words.phrase, "sentence": words.sentence, "noun": words.noun, "decimal": words.decimal,
        "date": words.date, "time": words.time, "email": words.email, "code": words.code, "path": words.path, "url": words.url, "name": words.first_name,
    }  # fmt: skip
    return makers[kind]()


def scalar_schema(kind: str) -> dict[str, Any]:
    """The plain JSON schema of a scalar kind."""
    return {"type": JSON_TYPES.get(kind, "string")}


def new_parameter(words: Words, taken: set[str], style: str, simple: bool = False) -> Parameter:
    """A parameter whose name is not in ``taken``; ``simple`` leaves out arrays and objects."""
    while True:
        name, kind, description = words.pick(NESTED if words.chance(words.nested) and not simple else LEXICON)
        if is_held_out(name) != words.held_out:
            continue
        if not words.held_out and not simple and words.chance(0.2):
            name = words.pick(LEXICON)[0]  # a name that says nothing of the kind, so that the schema is read
        if is_held_out(name) != words.held_out:
            continue
        if words.chance(words.strange):
            name, description = words.identifier(), ""
        elif words.chance(0.12):
            name = f"{words.noun().replace(' ', '_')}_{name}"
            description = ""
        if name in taken or (simple and kind in ("array", "object")):
            continue
        taken.add(name)
        return fill_parameter(name, kind, description, words, style)


def fill_parameter(name: str, kind: str, description: str, words: Words, style: str) -> Parameter:
    """Schema and value for a parameter of the given kind."""
    if kind == "enum":
        choices = list(words.pick(ENUMS)) if words.chance(0.6) else [words.noun() for _ in range(words.rng.randint(2, 4))]
        return Parameter(name, kind, {"enum": choices, "type": "string"}, words.pick(choices), description)
    if kind == "array":
        inner = words.pick(("noun", "int", "name", "city", "colour", "food", "code", "decimal"))
        value = [value_of(inner, words) for _ in range(words.rng.randint(1, 4))]
        return Parameter(name, kind, {"items": scalar_schema(inner), "type": "array"}, value, description, parts=[Parameter("", inner, scalar_schema(inner), None)])
    if kind == "object":
        return object_parameter(name, description, words, style)
    return Parameter(name, kind, scalar_schema(kind), value_of(kind, words), description)


def object_parameter(name: str, description: str, words: Words, style: str) -> Parameter:
    """A nested object of two or three scalar fields."""
    taken: set[str] = set()
    fields = [new_parameter(words, taken, style, simple=True) for _ in range(words.rng.randint(1, 3))]
    schema = object_schema(fields, style, title=name.title().replace("_", ""))
    return Parameter(name, "object", schema, {field.name: field.value for field in fields}, description, parts=fields)


def title_of(name: str) -> str:
    """The title that pydantic gives a field."""
    return name.replace("_", " ").title()


def object_schema(fields: list[Parameter], style: str, title: str = "") -> dict[str, Any]:
    """The schema of an object with ``fields``: style ``pydantic`` has titles, others have none."""
    properties: dict[str, Any] = {}
    for parameter in fields:
        properties[parameter.name] = property_schema(parameter, style)
    required = [parameter.name for parameter in fields if parameter.required]
    schema: dict[str, Any] = {"properties": properties, "type": "object"}
    if style in ("plain", "strict", "described"):
        schema = {"type": "object", "properties": properties}
    if required or style == "strict":
        schema["required"] = required
    if style == "pydantic" and title:
        schema["title"] = title
    if style == "strict":
        schema["additionalProperties"] = False
    return schema


def property_schema(field: Parameter, style: str) -> dict[str, Any]:
    """One property, with a title, a description, a default or a null as the style has it."""
    schema = dict(field.schema)
    if not field.required and style in ("pydantic", "langchain"):
        schema = {"anyOf": [schema, {"type": "null"}], "default": None}
    elif not field.required and style == "default":
        schema["default"] = {"integer": 0, "number": 0.0, "boolean": False, "string": "", "array": [], "object": {}}[field.schema["type"]]
    if field.description and style != "plain":
        schema["description"] = field.description
    if style == "pydantic" and field.kind != "object":
        schema["title"] = title_of(field.name)
    if style != "pydantic" and "type" in schema and next(iter(schema)) != "type":
        schema = {"type": schema.pop("type"), **schema}
    return schema


def lift_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    """Move nested objects to ``$defs`` and refer to them, as pydantic does."""
    definitions: dict[str, Any] = {}
    properties = dict(schema["properties"])
    for name, value in properties.items():
        if value.get("type") == "object" and "title" in value:
            definitions[value["title"]] = {key: item for key, item in value.items() if key not in ("description", "default")}
            kept = {"description": value["description"]} if "description" in value else {}
            properties[name] = {"$ref": f"#/$defs/{value['title']}", **kept}
    return {"$defs": definitions, **schema, "properties": properties} if definitions else schema


STYLES = ("pydantic", "langchain", "plain", "strict", "described", "default")
