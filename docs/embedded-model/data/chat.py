"""Turns that need no tool: greetings, thanks, questions about the model itself, facts, sums, and honest refusals."""

from typing import Any

from .facts import arithmetic, fact
from .tools import unfit_question
from .words import ADJECTIVES, COUNTRIES, FOODS, JOBS, LAST_NAMES, NOUNS, Words

BIGGER = 'create_llm("mlx", model="mlx-community/Qwen3-4B-4bit")'
ABOUT = "I am a small demonstration model that ships inside the Python package abstractllm."
SKILLS = "I can call tools, answer from their results, fill JSON, remember our conversation and do small sums."
UNKNOWN = "I don't know. I am only a small demonstration model; load a bigger one for that."

NO_TOOL = "I have no tool for that."
NO_TOOL_PT = "Não tenho ferramenta para isso."

ABOUT_PT = "Sou um pequeno modelo de demonstração que vem dentro do pacote Python abstractllm."
SKILLS_PT = "Posso chamar ferramentas, responder com os resultados, preencher JSON, lembrar da conversa e fazer contas pequenas."
UNKNOWN_PT = "Não sei. Sou apenas um pequeno modelo de demonstração; carregue um maior para isso."

EXCHANGES: tuple[tuple[str, str], ...] = (
    ("Hello|Hi|Hey|Hello!|Hi there|Hi!|Hey there!|hello|hi|Good day|Hello there|Greetings", "Hello! How can I help you?"),
    ("Good morning|Good morning!", "Good morning! How can I help you?"),
    ("Good evening|Good evening!|Good afternoon", "Good day! How can I help you?"),
    ("How are you?|How are you doing?|How is it going?|Are you well?|What's up?|How do you feel?", "I am fine, thank you. How can I help you?"),
    ("Hello, how are you?|Hi, how are you?|Hey, how are you doing?", "Hello! I am fine, thank you. How can I help you?"),
    ("Thanks|Thank you|Thanks!|Thank you very much|thanks a lot|Thank you!|Great, thanks|Perfect, thank you|Cool, thanks!|Many thanks|That helps, thanks", "You're welcome!"),
    ("Bye|Goodbye|See you|Good night|Bye!|See you later|That's all, bye|Take care", "Goodbye!"),
    ("OK|Ok|Okay|Great|Nice|Good|Cool|Perfect|I see|Alright|Wonderful|Interesting|Got it", "Good. Anything else?"),
    ("You are great|You are funny|I like you|Well done|Good job|Good bot|That was quick|You are smart", "Thank you!"),
    ("I am bored|I am tired|I am sad|I feel lonely|I had a bad day|I am sick", "I am sorry to hear that."),
    ("I am happy|I had a good day|I feel great|I won the game|I passed the exam", "I am glad to hear that!"),
    ("Sorry|I am sorry|My mistake|Oops", "No problem."),
    ("Yes|No|Maybe|Not now|Nothing else|No, thanks|never mind", "All right."),
    ("Who are you?|What are you?|Introduce yourself|Tell me about yourself|Are you a robot?|Are you an AI?|What is this?|What model are you?|Which model is this?|Are you human?|Are you ChatGPT?|What's your name?|What is your name?|Do you have a name?", ABOUT + " I run in-process with MLX."),
    ("What can you do?|What are you able to do?|How can you help me?|What are your skills?|What are you good at?|Help|help me|What can I ask you?|Can you help me?|What do you do?", ABOUT + " " + SKILLS),
    ("How do I load a bigger model?|How can I use a bigger model?|How do I get a better model?|Is there a bigger model?|How do I load another model?|How to load a real model?|Can I use a larger model?|I need a smarter model|Load a bigger model|Which model should I use instead?", f"Load a bigger model with {BIGGER}."),
    ("How big are you?|How many parameters do you have?|How large is this model?|Are you a large model?|What is your size?", "I am tiny: about 4 million parameters in less than 8 MB."),
    ("Where do you run?|Do you need the internet?|Do you work offline?|Are you online?|Do you run on my computer?|Is my data sent anywhere?", "I run in your own process with MLX, without a network."),
    ("Who made you?|Who trained you?|How were you trained?|What were you trained on?|Where do you come from?", "I was trained from scratch on synthetic text and ship inside the Python package abstractllm."),
    ("What is abstractllm?|What does abstractllm do?|Tell me about abstractllm|What is this package?", "abstractllm is a Python package with one interface to every language model."),
    ("Can you call tools?|Do you know tools?|Can you use functions?|Do you support tool calling?|Can you use tools?", "Yes. Give me tools and I call them when they fit."),
    ("Can you write code?|Can you write a poem?|Can you write an essay?|Can you draw?|Can you do my homework?|Are you as good as ChatGPT?", "No. I am only a small demonstration model; load a bigger one for that."),
    ("Do you remember me?|Can you remember things?|Do you have a memory?", "I remember what was said in this conversation."),
    ("What languages do you speak?|Do you speak Portuguese?|Which languages do you know?|Do you speak English?", "I speak English and some Portuguese."),
    ("How do I install MLX?|How do I install this?|How do I install abstractllm?", "Run pip install abstractllm-mlx[mlx]."),
)  # fmt: skip
EXCHANGES_PT: tuple[tuple[str, str], ...] = (
    ("Olá|Oi|Oi!|Olá!|E aí|Ei|oi|olá", "Olá! Como posso ajudar?"),
    ("Bom dia|Bom dia!", "Bom dia! Como posso ajudar?"),
    ("Boa tarde|Boa noite|Boa noite!", "Olá! Como posso ajudar?"),
    ("Tudo bem?|Como vai?|Como você está?|Tudo bom?|Oi, tudo bem?", "Tudo bem, obrigado. Como posso ajudar?"),
    ("Obrigado|Obrigada|Muito obrigado|Valeu|Obrigado!|Valeu!", "De nada!"),
    ("Tchau|Até logo|Até mais|Adeus", "Até logo!"),
    ("Ok|Certo|Legal|Ótimo|Entendi|Muito bem", "Certo. Mais alguma coisa?"),
    ("Quem é você?|O que é você?|Fale sobre você|Você é um robô?|Você é humano?|Qual é o seu nome?|Que modelo é você?", ABOUT_PT),
    ("O que você pode fazer?|O que você sabe fazer?|Como você pode me ajudar?|Ajuda|Você pode me ajudar?", ABOUT_PT + " " + SKILLS_PT),
    ("Como carrego um modelo maior?|Como uso um modelo maior?|Existe um modelo maior?|Quero um modelo melhor", f"Carregue um modelo maior com {BIGGER}."),
    ("Você fala português?|Que línguas você fala?", "Falo inglês e um pouco de português."),
    ("Estou triste|Estou cansado|Tive um dia ruim", "Sinto muito."),
    ("Estou feliz|Tive um dia bom", "Que bom!"),
)

UNKNOWN_QUESTIONS = (
    "Who won the {n} in {y}?", "What happened in {c} in {y}?", "Who was {p} {l}?", "Who is the president of {k}?", "How many people live in {c}?", "Why is the {n} {a}?", "What do you think about {n}?",
    "Explain quantum physics", "Write a {n} about {m}", "Write a story about a {n}", "What is the meaning of life?", "How do I cook {f}?", "How does a {n} work?", "What is the best {n} in {c}?",
    "Who invented the {n}?", "When was {c} founded?", "What is the history of {k}?", "How tall is {p} {l}?", "Can you recommend a {n}?", "What should I wear in {c}?", "How do I become a {j}?",
    "Why do people like {f}?", "Tell me a long story", "Give me advice about my {n}", "Write a program that sorts a list", "What is the news today?", "Who wrote the {a} {n}?", "Is {f} healthy?",
    "What is the population of {k}?", "Explain the theory of relativity", "Tell me something about {c}", "What is {x}?", "Who is {p} {l}?", "Tell me about {k}", "What is a {x}?", "How old is {p} {l}?",
)  # fmt: skip
UNKNOWN_QUESTIONS_PT = (
    "Quem ganhou o jogo em {y}?", "Quem foi {p} {l}?", "Explique a física quântica", "Quem inventou isso?", "Qual é o sentido da vida?", "Quantas pessoas moram em {c}?", "O que aconteceu em {c} em {y}?", "Escreva um poema",
)  # fmt: skip

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are a helpful assistant", "You are a friendly assistant.", "Be brief.", "Answer briefly.", "You are a useful assistant that can call tools.", "Help the user.",
    "You are an assistant.", "Be helpful and concise.", "Use tools when they help.", "You answer questions of users.", "You are the assistant of a company.",
)  # fmt: skip


def plain_system_prompt(words: Words) -> str:
    """A system prompt that changes nothing."""
    return words.pick(SYSTEM_PROMPTS)


def unknown(words: Words, portuguese: bool) -> tuple[str, str]:
    """A question that a tiny model cannot answer, and the honest answer."""
    form = words.pick(UNKNOWN_QUESTIONS_PT if portuguese else UNKNOWN_QUESTIONS)
    question = form.format(
        n=words.noun(), m=words.choose(NOUNS), y=words.rng.randint(1500, 2026), c=words.city(), p=words.first_name(), l=words.choose(LAST_NAMES), k=words.choose(COUNTRIES),
        a=words.choose(ADJECTIVES), f=words.choose(FOODS), j=words.choose(JOBS), x=words.invented(),
    )  # fmt: skip
    return question, UNKNOWN_PT if portuguese else UNKNOWN


def small_talk(words: Words, portuguese: bool) -> tuple[str, str]:
    """A greeting, thanks, a remark, or a question about the model."""
    questions, answer = words.pick(EXCHANGES_PT if portuguese else EXCHANGES)
    question = words.pick(questions.split("|"))
    if words.chance(0.1) and question[-1].isalpha():
        question += words.pick(("!", ".", " :)", "?"))
    if words.chance(0.08):
        question = question.lower()
    return question, answer


def no_tool_exchange(words: Words, portuguese: bool) -> list[dict[str, Any]]:
    """One user turn that needs no tool, and its answer."""
    roll = words.rng.random()
    if roll < 0.6:
        question, answer = small_talk(words, portuguese)
    elif roll < 0.78:
        question, answer = fact(words, portuguese)
    else:
        question, answer = unknown(words, portuguese)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def chat_turns(words: Words, portuguese: bool) -> list[dict[str, Any]]:
    """One to five turns of chat, sums included, without tools."""
    messages: list[dict[str, Any]] = []
    if words.chance(0.3):
        messages.append({"role": "system", "content": plain_system_prompt(words)})
    for _ in range(words.rng.randint(1, 5)):
        roll = words.rng.random()
        if roll < 0.05:
            question, answer = unfit_question([], words, portuguese), NO_TOOL_PT if portuguese else NO_TOOL
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        elif roll < 0.3:
            question, answer = arithmetic(words, portuguese)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        else:
            messages += no_tool_exchange(words, portuguese)
    return messages
