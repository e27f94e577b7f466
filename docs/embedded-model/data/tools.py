"""Tools and the questions that call them: everyday families, and made-up tools with any name and schema."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from .families import FAMILIES, Family
from .schemas import LEXICON, STYLES, Parameter, fill_parameter, lift_definitions, new_parameter, object_schema
from .words import ADJECTIVES, ANIMALS, FOODS, JOBS, NOUNS, THINGS, Words

# verb, gerund-free description, Portuguese imperative
VERBS = (
    ("get", "Get", "Obtenha"), ("find", "Find", "Encontre"), ("create", "Create", "Crie"), ("delete", "Delete", "Apague"), ("update", "Update", "Atualize"),
    ("send", "Send", "Envie"), ("open", "Open", "Abra"), ("close", "Close", "Feche"), ("count", "Count", "Conte"), ("check", "Check", "Verifique"),
    ("book", "Book", "Reserve"), ("cancel", "Cancel", "Cancele"), ("start", "Start", "Inicie"), ("stop", "Stop", "Pare"), ("print", "Print", "Imprima"),
    ("archive", "Archive", "Arquive"), ("export", "Export", "Exporte"), ("import", "Import", "Importe"), ("copy", "Copy", "Copie"), ("move", "Move", "Mova"),
    ("rename", "Rename", "Renomeie"), ("show", "Show", "Mostre"), ("list", "List", "Liste"), ("sort", "Sort", "Ordene"), ("rate", "Rate", "Avalie"),
    ("fetch", "Fetch", "Busque"), ("analyze", "Analyze", "Analise"), ("verify", "Verify", "Confira"), ("assign", "Assign", "Atribua"), ("publish", "Publish", "Publique"),
)  # fmt: skip
OBJECTS = (
    ("invoice", "fatura"), ("customer", "cliente"), ("order", "pedido"), ("report", "relatório"), ("ticket", "chamado"), ("room", "quarto"), ("product", "produto"),
    ("payment", "pagamento"), ("contract", "contrato"), ("employee", "funcionário"), ("task", "tarefa"), ("document", "documento"), ("event", "evento"), ("photo", "foto"),
    ("server", "servidor"), ("backup", "backup"), ("table", "mesa"), ("vehicle", "veículo"), ("appointment", "consulta"), ("package", "pacote"), ("playlist", "lista"),
    ("profile", "perfil"), ("comment", "comentário"), ("subscription", "assinatura"), ("sensor", "sensor"), ("account", "conta"), ("recipe", "receita"), ("course", "curso"),
    ("patient", "paciente"), ("shipment", "remessa"), ("campaign", "campanha"), ("project", "projeto"), ("refund", "reembolso"), ("survey", "pesquisa"),
)  # fmt: skip
ANY_WORDS = (NOUNS, THINGS, ANIMALS, FOODS, JOBS, ADJECTIVES)


@dataclass
class Tool:
    """A tool with the arguments of one call; ``family`` is set for everyday tools."""

    name: str
    description: str
    parameters: list[Parameter]
    style: str
    family: Family | None = None
    action: tuple[str, str] = ("", "")
    used: list[Parameter] = field(default_factory=list)

    def schema(self) -> dict[str, Any]:
        """The tool as an OpenAI function."""
        title = self.name if self.style in ("pydantic", "langchain") else ""
        schema = object_schema(self.parameters, self.style, title)
        if self.style == "pydantic":
            schema = lift_definitions(schema)
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        function["parameters"] = schema
        return {"type": "function", "function": function}

    def call(self) -> dict[str, Any]:
        """The call with the arguments that were asked for, in the order of the question: easier to write than that of the schema."""
        arguments = {parameter.name: parameter.value for parameter in self.used}
        return {"type": "function", "function": {"name": self.name, "arguments": arguments}}


def family_tool(words: Words, family: Family | None = None, like: Tool | None = None) -> Tool:
    """A tool of an everyday family, under one of its names or an invented one; ``like`` gives a tool to call again."""
    family = family or words.pick(FAMILIES)
    name = words.choose(family.names.split())
    description = words.pick(family.descriptions.split("|"))
    if words.chance(0.12 if words.held_out else 0.4) and "{name}" not in " ".join(family.questions) and description:
        name = words.identifier()  # the description alone tells what it does
    renamed = not words.held_out and words.chance(0.65)
    if renamed and words.chance(0.4) and "{name}" in " ".join(family.questions):
        name = other_name(words, set())
    style, with_descriptions = words.pick(STYLES), words.chance(0.5)
    parameters, taken = [], set()
    for names, kind, text in family.parameters:
        label = other_name(words, taken) if renamed and words.chance(0.6) else words.choose([n for n in names.split() if n not in taken])
        taken.add(label)
        parameter = family_parameter(label, kind, text if with_descriptions else "", words, style)
        parameters.append(replace(parameter, required=words.chance(0.8)))
    return Tool(name, description, parameters, style, family)


def other_name(words: Words, taken: set[str]) -> str:
    """A name that a family does not have, so that training does not learn its names by heart."""
    while True:
        plain = "_".join((words.pick(VERBS[:-6])[0], words.choose(words.pick((NOUNS, THINGS)))))
        name = words.pick((words.identifier(), words.identifier(), words.pick(LEXICON)[0], plain, plain.title().replace("_", "")))
        if name not in taken:
            return name


def family_parameter(name: str, kind: str, description: str, words: Words, style: str) -> Parameter:
    """A parameter from a family's note such as ``int``, ``enum:a|b`` or ``array:name``."""
    kind, _, extra = kind.partition(":")
    if kind == "enum":
        choices = extra.split("|")
        return Parameter(name, "enum", {"enum": choices, "type": "string"}, words.pick(choices), description)
    if kind == "array":
        items = [fill_parameter("", extra, "", words, style) for _ in range(words.rng.randint(2, 4))]
        return Parameter(name, "array", {"items": items[0].schema, "type": "array"}, [item.value for item in items], description, parts=items[:1])
    return fill_parameter(name, kind, description, words, style)


def made_up_tool(words: Words, similar_to: Tool | None = None, most: int = 6) -> Tool:
    """A tool of any name and schema; ``similar_to`` makes it share words and parameters with another."""
    verb, noun = action_words(words)
    roll = words.rng.random()
    if roll < 0.4:
        noun = (words.invented(),) * 2
    if 0.3 < roll < 0.5:
        made_up = words.invented()
        verb = (made_up, made_up.capitalize(), "" if words.held_out else made_up.capitalize())
    if words.held_out:  # nobody can guess the Portuguese of an unseen word
        noun = (noun[0], "")
    orders = (0, 0, 0, 1, 2, 3) if words.held_out else (0, 0, 1, 2, 2, 3)
    name = {0: f"{verb[0]}_{noun[0]}", 1: f"{verb[0]}{noun[0].capitalize()}", 2: f"{noun[0]}_{verb[0]}", 3: f"{verb[0]}-{noun[0]}"}[words.rng.choice(orders)]
    article = words.pick(("a", "the", "one"))
    description = words.pick(("{v} {a} {n}.", "{v} {a} {n}", "{v} {a} {n} in the system.", "Use this to {l} {a} {n}.", "{v}s {a} {n}")).format(v=verb[1], l=verb[0], a=article, n=noun[0])
    action = (f"{verb[0]} {article} {noun[0]}", f"{verb[2]} {noun[1]}".strip())
    if not words.held_out and words.chance(0.15):
        name = words.pick((f"{words.invented()}_{name}", f"{name}_{words.invented()}", f"do_{name}", f"{name}_now"))
    if roll > (0.8 if words.held_out else 0.6):
        name = words.identifier()
    if roll > 0.9:
        description, action = "", ("", "")
    style = similar_to.style if similar_to else words.pick(STYLES)
    taken: set[str] = set()
    count = words.rng.choice((0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6) if words.held_out else (0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6))
    parameters = [new_parameter(words, taken, style) for _ in range(min(count, most))]
    if similar_to and similar_to.parameters and words.chance(0.7):
        for parameter in words.rng.sample(similar_to.parameters, min(len(similar_to.parameters), 2)):
            if parameter.name not in taken:
                parameters.append(replace(parameter))
    for parameter in parameters[1:]:
        parameter.required = words.chance(0.7)
    if words.chance(0.5):
        for parameter in parameters:
            parameter.description = ""
    return Tool(name, description, parameters, style, None, action)


def action_words(words: Words) -> tuple[tuple[str, str, str], tuple[str, str]]:
    """A verb and an object from our part of the lists; in training half of them are any words at all.

    What a made-up tool does is then found by comparing words, also where no one would expect them.
    """
    if words.held_out:
        verb, noun = VERBS[-1 - words.rng.randrange(6)], OBJECTS[-1 - words.rng.randrange(8)]
        return (verb[0], verb[1], ""), noun
    verb, noun = VERBS[words.rng.randrange(len(VERBS) - 6)], OBJECTS[words.rng.randrange(len(OBJECTS) - 8)]
    if words.chance(0.4):
        word = words.invented() if words.chance(0.3) else words.choose(words.pick(ANY_WORDS)).lower()
        verb = (word, word.capitalize(), word.capitalize())
    if words.chance(0.4):
        noun = (words.choose(words.pick(ANY_WORDS)).lower(),) * 2
    return verb, noun


def spoken(value: Any, words: Words, portuguese: bool) -> str:
    """A value as people write it in a question."""
    if isinstance(value, bool):
        return words.pick(("sim", "verdadeiro", "true") if value else ("não", "falso", "false")) if portuguese else words.pick(("yes", "true", "on") if value else ("no", "false", "off"))
    if isinstance(value, list):
        items = [str(item) for item in value]
        if words.chance(0.3) or len(items) == 1:
            return json.dumps(value, ensure_ascii=False) if words.chance(0.5) else ", ".join(items)
        return ", ".join(items[:-1]) + (" e " if portuguese else " and ") + items[-1]
    if isinstance(value, dict):
        return words.pick((", ", " and ")).join(f"{key.replace('_', ' ') if words.chance(0.5) else key} {spoken(item, words, portuguese)}" for key, item in value.items())
    text = str(value)
    risky = any(mark in text for mark in (",", " and ", " e ")) or (" " in text and words.chance(0.4))
    return words.pick(('"{}"', "'{}'", '"{}"')).format(text) if risky or (isinstance(value, str) and words.chance(0.08)) else text


def clause(parameter: Parameter, words: Words, style: int, portuguese: bool) -> str:
    """One argument in words: ``style`` picks the form, so that a question keeps to one."""
    key = parameter.name if words.chance(0.5) else parameter.name.replace("_", " ")
    value = spoken(parameter.value, words, portuguese)
    english = ("{k} {v}", "{k}={v}", "{k}: {v}", "{k} is {v}", "{k} set to {v}", "{v} as {k}", "the {k} {v}", "{v} for {k}", "{k} = {v}")
    brazilian = ("{k} {v}", "{k}={v}", "{k}: {v}", "{k} é {v}", "{k} igual a {v}", "{v} como {k}", "o {k} {v}", "{v} para {k}", "{k} = {v}")
    return (brazilian if portuguese else english)[style].format(k=key, v=value)


def made_up_question(tool: Tool, words: Words, portuguese: bool) -> str:
    """Ask for a call of a made-up tool; optional parameters are sometimes left out."""
    tool.used = [p for p in tool.parameters if p.required or words.chance(0.5)]
    by_name = ("Call {n}", "Use {n}", "Use the {n} tool", "Run {n}", "Please call {n}", "Execute the function {n}", "Use the tool {n}", "I need {n}", "Invoke {n}")
    by_name_pt = ("Chame {n}", "Use {n}", "Use a ferramenta {n}", "Execute {n}", "Por favor, chame {n}", "Rode a função {n}")
    if tool.used and len(tool.used) == len(tool.parameters) and words.chance(0.12) and all(p.kind not in ("object", "bool") for p in tool.used):
        inside = ", ".join(json.dumps(p.value, ensure_ascii=False) for p in tool.used)
        return words.pick(("{c}", "Call {c}", "What is the value of {c}?", "Use the tool to get the value of {c}", "What does {c} return?", "Run {c}")).format(c=f"{tool.name}({inside})")
    if not tool.action[portuguese] or words.chance(0.35):
        start = words.pick(by_name_pt if portuguese else by_name).format(n=tool.name)
    else:
        start = tool.action[1] if portuguese else words.pick(("{}", "Please {}", "Can you {}?", "I want to {}", "Could you {}?", "{}, please", "I'd like to {}")).format(tool.action[0])
        start = start[0].upper() + start[1:]
    if not tool.used:
        return start + words.pick(("", ".", "!" if not start.endswith("?") else ""))
    if len(tool.used) == 1 and isinstance(tool.used[0].value, (str, int, float)) and not isinstance(tool.used[0].value, bool) and words.chance(0.4):
        return start.rstrip("?") + words.pick((" com ", " para ", ": ") if portuguese else (" with ", " for ", ": ", " on ")) + spoken(tool.used[0].value, words, portuguese)
    style, shuffled = words.rng.randrange(9), list(tool.used)
    if words.chance(0.4):
        words.rng.shuffle(shuffled)
    tool.used = shuffled
    mixed = words.chance(0.3)
    parts = [clause(p, words, words.rng.randrange(9) if mixed else style, portuguese) for p in shuffled]
    comma = words.pick((", ", ", ", "; ", "\n"))
    last = comma if words.chance(0.5) else (" e " if portuguese else " and ")
    joined = comma.join(parts[:-1]) + last + parts[-1] if len(parts) > 1 else parts[0]
    link = words.pick((" com ", ": ", ", ", " usando ") if portuguese else (" with ", ": ", ", ", " using ", " where ", ". "))
    return start + (link if not start.endswith("?") else " ") + joined + words.pick(("", "."))


def family_question(tool: Tool, words: Words, portuguese: bool) -> str:
    """Ask an everyday question; only the parameters that it mentions are used."""
    assert tool.family is not None
    own = [q for q in tool.family.questions if is_portuguese(q) == portuguese] or list(tool.family.questions)
    template = words.pick(own)
    texts, tool.used, places = [], [], {}
    for i, (parameter, (_, kind, _)) in enumerate(zip(tool.parameters, tool.family.parameters, strict=True)):
        value = parameter.value
        if kind.startswith("bool:"):
            text = kind.partition(":")[2].split("|")[0 if value else 1]
        elif isinstance(value, list):
            text = (" e " if portuguese else " and ").join(filter(None, (", ".join(map(str, value[:-1])), str(value[-1]))))
        else:
            text = str(value)
        texts.append(text)
        if f"{{{i}}}" in template:
            tool.used.append(parameter)
            places[parameter.name] = template.index(f"{{{i}}}")
    tool.used.sort(key=lambda parameter: places[parameter.name])
    question = template.format(*texts, name=tool.name)
    for parameter in tool.parameters:
        parameter.required = parameter.required and parameter in tool.used
    if words.chance(0.15) and "?" not in question:
        question = words.pick(("Please ", "Hey, ", "Could you do this: ")) + question
    if words.chance(0.1):
        question += words.pick((" Use the tool.", " Use a function.", " Thanks!"))
    return question


def pair_question(tool: Tool, words: Words, portuguese: bool) -> tuple[str, list[dict[str, Any]]] | None:
    """One question about two values (``weather in Paris and Rome``) and its two calls; None where the tool has no such question."""
    if not tool.family or not tool.parameters or tool.family.parameters[0][1] not in ("city", "code", "noun", "path", "url"):
        return None
    templates = [q for q in tool.family.questions if "{0}" in q and q.count("{") == 1 and is_portuguese(q) == portuguese]
    if not templates:
        return None
    first, calls, values = tool.parameters[0], [], []
    for parameter in tool.parameters[1:]:
        parameter.required = False
    tool.used = [first]
    for _ in range(2):
        again(tool, words)
        values.append(str(first.value))
        calls.append(tool.call())
    return words.pick(templates).format((" e " if portuguese else " and ").join(values)), calls


def is_portuguese(text: str) -> bool:
    """Whether a question of the families is written in Portuguese."""
    starts = ("Como", "Qual", "Está", "Quanto", "Some", "Multiplique", "Divida", "Envie", "Mande", "Diga", "Lembre", "Crie", "Converta", "Traduza", "Que ", "Procure", "Busque", "Reserve um", "Quero", "O que",
              "Defina", "Toque", "Agende", "Quem", "Onde", "Sorteie", "Coloque", "Leia", "Escreva", "Baixe", "Quantos", "Adicione", "Cadastre", "Liste", "Conte", "Uma receita", "Acorde", "Abra", "Transfira")  # fmt: skip
    return text.startswith(starts)


SUMS = ("add", "multiply", "subtract", "divide")


def unfit_question(box: list[Tool], words: Words, portuguese: bool) -> str:
    """An everyday question that no tool of ``box`` answers, nor the model alone."""
    present = {tool.family.names for tool in box if tool.family}
    while True:
        family = words.pick(FAMILIES)
        if family.names not in present and family.names.split()[0] not in SUMS and not any("{name}" in q for q in family.questions):
            return family_question(family_tool(words, family), words, portuguese).removesuffix(" Use the tool.").removesuffix(" Use a function.")


def ask(tool: Tool, words: Words, portuguese: bool) -> str:
    """A question that this tool answers; sets ``tool.used``."""
    return family_question(tool, words, portuguese) if tool.family else made_up_question(tool, words, portuguese)


def new_tool(words: Words, most: int = 6) -> Tool:
    """Any tool: more made-up ones than everyday ones; made-up ones have at most ``most`` parameters."""
    return family_tool(words) if words.chance(0.4) else made_up_tool(words, most=most)


def toolbox(words: Words, size: int, most: int = 6) -> list[Tool]:
    """``size`` tools with different names and purposes, some of them easy to confuse."""
    tools = [new_tool(words, most)]
    while len(tools) < size:
        near = words.pick(tools) if words.chance(0.4) else None
        tool = made_up_tool(words, similar_to=near, most=most) if near else new_tool(words, most)
        clash = any(tool.name == other.name or (tool.family and tool.family is other.family) or (tool.action[0] and tool.action[0].split()[::2] == other.action[0].split()[::2]) for other in tools)
        if not clash:
            tools.append(tool)
    words.rng.shuffle(tools)
    return tools


def again(tool: Tool, words: Words) -> None:
    """Give every parameter a new value, for the next call of the same tool."""
    for parameter in tool.parameters:
        parameter.renew(words)
