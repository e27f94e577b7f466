"""A few dozen plain facts, and small sums: what a chat needs to feel alive."""

from .words import DAYS, MONTHS, Words

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome", "Portugal": "Lisbon", "Brazil": "Brasília", "Argentina": "Buenos Aires", "Chile": "Santiago",
    "Peru": "Lima", "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Poland": "Warsaw", "Austria": "Vienna", "Greece": "Athens", "Russia": "Moscow", "Ireland": "Dublin", "Cuba": "Havana", "Canada": "Ottawa",
    "England": "London", "Mexico": "Mexico City", "Hungary": "Budapest", "Belgium": "Brussels", "South Korea": "Seoul",
}  # fmt: skip
CAPITALS_PT = {
    "França": "Paris", "Alemanha": "Berlim", "Espanha": "Madri", "Itália": "Roma", "Portugal": "Lisboa", "Brasil": "Brasília", "Argentina": "Buenos Aires", "Chile": "Santiago",
    "Peru": "Lima", "Japão": "Tóquio", "Inglaterra": "Londres", "Egito": "Cairo",
}  # fmt: skip
FACTS = (
    ("What colour is the sky?|Which colour does the sky have?|What color is the sky?", "The sky is blue."),
    ("What colour is grass?|What color is the grass?", "Grass is green."),
    ("What colour is snow?|What color is snow?", "Snow is white."),
    ("What colour is the sun?|What color is the sun?", "The sun looks yellow."),
    ("What colour is a banana?|What color are bananas?", "A ripe banana is yellow."),
    ("What colour is blood?|What color is blood?", "Blood is red."),
    ("How many days are in a week?|How many days does a week have?", "A week has 7 days."),
    ("How many months are in a year?|How many months does a year have?", "A year has 12 months."),
    ("How many days are in a year?|How many days does a year have?", "A year has 365 days, or 366 in a leap year."),
    ("How many hours are in a day?|How many hours does a day have?", "A day has 24 hours."),
    ("How many minutes are in an hour?", "An hour has 60 minutes."),
    ("How many seconds are in a minute?", "A minute has 60 seconds."),
    ("How many legs does a spider have?", "A spider has 8 legs."),
    ("How many legs does a cat have?|How many legs does a dog have?", "It has 4 legs."),
    ("What does a cow drink?|What do cows drink?", "Cows drink water."),
    ("What sound does a cat make?|What does a cat say?", "A cat says meow."),
    ("What sound does a dog make?|What does a dog say?", "A dog says woof."),
    ("What is water made of?", "Water is made of hydrogen and oxygen."),
    ("At what temperature does water boil?|When does water boil?", "Water boils at 100 degrees Celsius at sea level."),
    ("At what temperature does water freeze?|When does water freeze?", "Water freezes at 0 degrees Celsius."),
    ("Which planet do we live on?|What planet is this?", "We live on the Earth."),
    ("What is the largest planet?|Which planet is the largest?", "Jupiter is the largest planet of the solar system."),
    ("What is the largest ocean?", "The Pacific is the largest ocean."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What is the opposite of big?", "The opposite of big is small."),
    ("What is the opposite of day?", "The opposite of day is night."),
    ("What are the primary colours?|Name the primary colors", "The primary colours are red, yellow and blue."),
    ("What language is spoken in Brazil?", "In Brazil people speak Portuguese."),
    ("What is Python?", "Python is a programming language."),
    ("What is MLX?", "MLX is a machine learning framework by Apple."),
    ("What is JSON?", "JSON is a text format for data."),
    ("What is the first letter of the alphabet?", "The first letter is A."),
    ("What are the seasons?|Name the four seasons", "The seasons are spring, summer, autumn and winter."),
)
FACTS_PT = (
    ("Qual é a cor do céu?|De que cor é o céu?", "O céu é azul."),
    ("Quantos dias tem uma semana?", "Uma semana tem 7 dias."),
    ("Quantos meses tem um ano?", "Um ano tem 12 meses."),
    ("Quantas horas tem um dia?", "Um dia tem 24 horas."),
    ("Que língua se fala no Brasil?", "No Brasil se fala português."),
    ("Qual é a cor da grama?", "A grama é verde."),
)


def fact(words: Words, portuguese: bool) -> tuple[str, str]:
    """A question about the world and its answer."""
    roll = words.rng.random()
    if roll < 0.35:
        country, capital = words.pick(list((CAPITALS_PT if portuguese else CAPITALS).items()))
        forms = ("Qual é a capital: {c}?", "A capital de que país fica em {c}? Diga a capital.") if portuguese else ("What is the capital of {c}?", "Capital of {c}?", "What's the capital of {c}?", "Tell me the capital of {c}")
        question = words.pick(forms[:1] if portuguese else forms).format(c=country)
        return question, (f"A capital é {capital}." if portuguese else f"The capital of {country} is {capital}.")
    if roll < 0.5 and not portuguese:
        return calendar_fact(words)
    questions, answer = words.pick(FACTS_PT if portuguese else FACTS)
    return words.pick(questions.split("|")), answer


def calendar_fact(words: Words) -> tuple[str, str]:
    """The day or month before or after another."""
    names = words.pick((DAYS, MONTHS))
    index = words.rng.randrange(len(names))
    step = words.pick((1, -1))
    what = "day" if names is DAYS else "month"
    side = "after" if step > 0 else "before"
    answer = names[(index + step) % len(names)]
    return words.pick((f"What {what} comes {side} {names[index]}?", f"Which {what} is {side} {names[index]}?")), f"The {what} {side} {names[index]} is {answer}."


def arithmetic(words: Words, portuguese: bool) -> tuple[str, str]:
    """A sum on small numbers."""
    sign = words.pick(("+", "+", "-", "*"))
    a, b = (words.rng.randint(0, 10), words.rng.randint(0, 10)) if sign == "*" else (words.rng.randint(0, 30), words.rng.randint(0, 20))
    if sign == "-" and b > a:
        a, b = b, a
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    name = {"+": ("plus", "mais"), "-": ("minus", "menos"), "*": ("times", "vezes")}[sign][portuguese]
    forms = ("Quanto é {a} {n} {b}?", "{a} {s} {b}?", "{a}{s}{b}") if portuguese else ("What is {a} {n} {b}?", "What is {a} {s} {b}?", "{a} {s} {b}", "{a}{s}{b}=", "How much is {a} {n} {b}?", "Calculate {a} {s} {b}", "What's {a}{s}{b}?")
    return words.pick(forms).format(a=a, b=b, s=sign, n=name), f"{a} {sign} {b} = {result}"
