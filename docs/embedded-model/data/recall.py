"""Conversations that must be remembered, and system prompts that must be obeyed."""

from typing import Any

from .chat import chat_turns, no_tool_exchange, small_talk
from .facts import fact
from .words import ANIMALS, COLOURS, FOODS, JOBS, Words

Message = dict[str, Any]

# topic: what the user says, what is asked later, what is answered; the same in Portuguese
TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "name": (
        ("My name is {v}.", "I am {v}.", "I'm {v}", "Hi, I'm {v}!", "Call me {v}.", "Hello, my name is {v}", "People call me {v}."),
        ("What is my name?", "What's my name?", "Who am I?", "Do you remember my name?", "How am I called?", "Tell me my name", "Say my name"),
        "Your name is {v}.",
    ),
    "city": (
        ("I live in {v}.", "I am from {v}.", "My home is in {v}.", "I come from {v}", "I moved to {v} last year."),
        ("Where do I live?", "Which city do I live in?", "What is my city?", "Where am I from?", "In which city do I live?"),
        "You live in {v}.",
    ),
    "number": (
        ("Remember the number {v}.", "My number is {v}.", "The number is {v}.", "Please remember {v}.", "My lucky number is {v}", "The code is {v}."),
        ("What is the number?", "What was the number?", "Which number did I tell you?", "What number did I say?", "Tell me the number", "What was the code?", "What is my number?"),
        "The number is {v}.",
    ),
    "colour": (
        ("My favourite colour is {v}.", "I like the colour {v} most.", "My favorite color is {v}"),
        ("What is my favourite colour?", "Which colour do I like?", "What's my favorite color?", "What colour did I mention?"),
        "Your favourite colour is {v}.",
    ),
    "pet": (
        ("I have a {v}.", "My pet is a {v}.", "There is a {v} at my home."),
        ("What pet do I have?", "Which animal do I have?", "What is my pet?", "What animal did I mention?"),
        "You have a {v}.",
    ),
    "job": (
        ("I work as a {v}.", "My job is {v}.", "By profession I am a {v}."),
        ("What is my job?", "What do I do for work?", "What's my profession?", "What do I work as?"),
        "Your job is {v}.",
    ),
    "age": (
        ("I am {v} years old.", "I'm {v} years old", "My age is {v}.", "I turned {v} today."),
        ("How old am I?", "What is my age?", "Do you know my age?"),
        "You are {v} years old.",
    ),
    "food": (
        ("My favourite food is {v}.", "I love {v}.", "I like to eat {v}."),
        ("What is my favourite food?", "What do I like to eat?", "What food do I love?", "Which food did I mention?"),
        "Your favourite food is {v}.",
    ),
    "list": (
        ("My shopping list: {v}.", "I need to buy {v}.", "Remember this list: {v}.", "Please remember: {v}", "I bought {v}."),
        ("What is on my list?", "What was the list?", "Which things did I list?", "Repeat my list", "What do I need to buy?", "What did I ask you to remember?"),
        "Your list: {v}.",
    ),
}  # fmt: skip
TOPICS_PT: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "name": (("Meu nome é {v}.", "Eu sou {v}.", "Me chamo {v}.", "Oi, sou {v}"), ("Qual é o meu nome?", "Como eu me chamo?", "Quem sou eu?"), "O seu nome é {v}."),
    "city": (("Eu moro em {v}.", "Sou de {v}.", "Moro em {v}"), ("Onde eu moro?", "Em que cidade eu moro?", "De onde eu sou?"), "Você mora em {v}."),
    "number": (("Lembre o número {v}.", "O número é {v}.", "Guarde o número {v}"), ("Qual é o número?", "Qual era o número?", "Que número eu disse?"), "O número é {v}."),
    "age": (("Eu tenho {v} anos.", "Tenho {v} anos"), ("Quantos anos eu tenho?", "Qual é a minha idade?"), "Você tem {v} anos."),
    "list": (("Minha lista: {v}.", "Preciso comprar {v}."), ("Qual é a minha lista?", "O que preciso comprar?", "Repita a minha lista"), "A sua lista: {v}."),
}  # fmt: skip
HELD = ("Good, I will remember that.", "Certo, vou lembrar disso.")
UNTOLD = ("You have not told me that yet.", "Você ainda não me disse isso.")


def topic_value(topic: str, words: Words, portuguese: bool) -> str:
    """Something to remember."""
    if topic == "name":
        return words.first_name() if words.chance(0.7) else words.person()
    if topic == "list":
        items = [words.noun() for _ in range(words.rng.randint(2, 5))]
        return ", ".join(items[:-1]) + (" e " if portuguese else " and ") + items[-1]
    if topic == "number":
        return words.code() if words.chance(0.2) else str(words.rng.randint(0, words.pick((20, 100, 1000, 99999))))
    if topic == "age":
        return str(words.rng.randint(5, 99))
    if topic == "city":
        return words.city()
    if words.chance(0.3):
        return words.invented()
    return words.choose({"colour": COLOURS, "pet": ANIMALS, "job": JOBS, "food": FOODS}[topic])


def turn(question: str, answer: str) -> list[Message]:
    """A user's message and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def recall_turns(words: Words, portuguese: bool) -> list[Message]:
    """Facts about the user, other talk, and questions about the facts; the last turn is such a question."""
    topics = TOPICS_PT if portuguese else TOPICS
    chosen = words.rng.sample(sorted(topics), words.rng.randint(1, min(4, len(topics))))
    values = {topic: topic_value(topic, words, portuguese) for topic in chosen}
    messages: list[Message] = []
    statements = [words.pick(topics[topic][0]).format(v=values[topic]) for topic in chosen]
    if words.chance(0.35):
        messages += turn(" ".join(text if text[-1] in ".!?" else text + "." for text in statements), HELD[portuguese])
    else:
        for statement in statements:
            messages += turn(statement, HELD[portuguese])
            if words.chance(0.25):
                messages += no_tool_exchange(words, portuguese)
    if words.chance(0.15):
        other = words.pick([topic for topic in topics if topic not in chosen])
        messages += turn(words.pick(topics[other][1]), UNTOLD[portuguese])
    if words.chance(0.2):  # the user changes their mind
        topic = words.pick(chosen)
        values[topic] = topic_value(topic, words, portuguese)
        messages += turn(words.pick(("Now: ", "Correction: ", "Actually, "))+ words.pick(topics[topic][0]).format(v=values[topic]), HELD[portuguese])
    asked = chosen if words.chance(0.5) else [words.pick(chosen)]
    for topic in asked:
        if words.chance(0.2):
            messages += no_tool_exchange(words, portuguese)
        messages += turn(words.pick(topics[topic][1]), topics[topic][2].format(v=values[topic]))
    return messages


def obeying_turns(words: Words, portuguese: bool) -> list[Message]:
    """One or two simple orders in the system prompt, and short answers that follow them."""
    orders: list[str] = []
    rules = words.rng.sample(("capitals", "sign", "portuguese", "start"), words.pick((1, 1, 2)))
    in_portuguese = "portuguese" in rules
    answer_portuguese = portuguese or in_portuguese
    signature = words.first_name()
    start = words.pick(("Sure!", "Well,", "Yes!", words.invented().capitalize() + "!", "Ahoy!", "Dear user,"))
    for rule in rules:
        forms = {
            "capitals": ("Answer in capitals.", "Write only in capital letters.", "Always answer in upper case.", "Use capital letters only.", "SHOUT every answer in capitals."),
            "sign": ("Sign as {s}.", "Sign every answer as {s}.", "End every answer with the name {s}.", "Your signature is {s}.", "Always sign your messages as {s}."),
            "portuguese": ("Reply in Portuguese.", "Answer in Portuguese.", "Always answer in Portuguese.", "Responda em português.", "Speak Portuguese only."),
            "start": ('Start every answer with "{t}"', 'Begin each answer with "{t}"', 'Always start with "{t}"'),
        }  # fmt: skip
        orders.append(words.pick(forms[rule]).format(s=signature, t=start))
    messages: list[Message] = [{"role": "system", "content": words.pick(("", "", "You are a helpful assistant. ")) + " ".join(orders)}]
    for _ in range(words.rng.randint(1, 3)):
        question, answer = obeyed_exchange(words, portuguese, answer_portuguese)
        if "start" in rules:
            answer = f"{start} {answer}"
        if "sign" in rules:
            answer = f"{answer} {signature}"
        messages += turn(question, answer.upper() if "capitals" in rules else answer)
    return messages


ECHOES = {
    "Hello|Hi|Hey|Hello!|Hi there|Hi!": "Olá! Como posso ajudar?", "Thanks|Thank you|Thanks!|Thank you!": "De nada!", "Good morning|Good morning!": "Bom dia! Como posso ajudar?",
    "How are you?|How are you doing?": "Tudo bem, obrigado. Como posso ajudar?", "Bye|Goodbye|See you": "Até logo!", "OK|Great|Nice|Good": "Certo. Mais alguma coisa?",
    "How many days are in a week?": "Uma semana tem 7 dias.", "How many months are in a year?": "Um ano tem 12 meses.", "How many hours are in a day?": "Um dia tem 24 horas.",
    "What colour is the sky?|What color is the sky?": "O céu é azul.", "What colour is grass?": "A grama é verde.", "What language is spoken in Brazil?": "No Brasil se fala português.",
    "Explain quantum physics|Write a story|What is the news today?|What is the meaning of life?": "Não sei. Sou apenas um pequeno modelo de demonstração; carregue um maior para isso.",
}  # fmt: skip


def obeyed_exchange(words: Words, portuguese: bool, answer_portuguese: bool) -> tuple[str, str]:
    """A short question and its answer, in Portuguese where that is the order."""
    if answer_portuguese and not portuguese and words.chance(0.8):
        questions, answer = words.pick(list(ECHOES.items()))
        return words.pick(questions.split("|")), answer
    while True:
        question, answer = (small_talk if words.chance(0.6) else fact)(words, answer_portuguese)
        if len(answer) < 60:
            return question, answer


def memory_turns(words: Words, portuguese: bool) -> list[Message]:
    """Recall or obey."""
    if words.chance(0.35):
        return obeying_turns(words, portuguese)
    messages = recall_turns(words, portuguese)
    if words.chance(0.15):
        messages = chat_turns(words, portuguese) + messages if not words.chance(0.3) else messages
    return messages
