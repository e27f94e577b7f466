"""Words to talk about, real and invented, split so that evaluation sees none of the training values.

``Words(rng, held_out=False)`` draws from the training half; ``held_out=True`` from the other.
"""

import zlib
from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


FIRST_NAMES = _split(
    """Anna, Bruno, Carla, Diego, Elena, Felipe, Grace, Hugo, Iris, Jonas, Karin, Lucas, Maria, Nina, Oscar, Paula, Rafael, Sofia, Tomas,
    Vera, Yuri, Zoe, Alice, Bob, Carol, David, Emma, Frank, Helen, Ivan, Julia, Kevin, Laura, Marco, Nora, Oliver, Peter, Rosa, Sam, Tina, Victor,
    Wendy, Ahmed, Bianca, Chen, Daniel, Erik, Fatima, George, Hannah, Ingrid, Joao, Kenji, Leila, Mateus, Noah, Olga, Priya, Ravi, Sara, Thiago,
    Ursula, Wei, Yara, Adam, Beatriz, Caio, Dora, Eva, Fabio, Gil, Heitor, Isabel, Jack, Lena, Miguel, Naomi, Pedro, Rita, Simon, Talita, Vicente,
    Ada, Alan, Amelia, Arthur, Benjamin, Camila, Charlotte, Clara, Emily, Ethan, Gabriel, Henry, Jane, Jessica, John, Leo, Linda, Luiza, Mary, Michael,
    Rebecca, Robert, Ruth, Sandra, Steve, Susan, Theo, Tom, William, José, Márcia, Antônio, Zuleica, Björn, Chloé, Noël"""
)
LAST_NAMES = _split(
    """Silva, Santos, Costa, Moreira, Almeida, Smith, Jones, Brown, Miller, Weber, Schmidt, Rossi, Bianchi, Tanaka, Suzuki, Kim, Lee, Wang, Patel,
    Singh, Garcia, Lopez, Novak, Kowalski, Ivanov, Petrov, Hansen, Olsen, Dubois, Martin, Cohen, Haddad, Okafor, Mensah, Walker, Young, King, Wright,
    Hill, Green, Baker, Turner, Carter, Parker, Souza, Oliveira, Lima, Barbosa, Ferreira, Ribeiro, Andersson, Berg, Fischer, Keller, Moretti, Ricci"""
)
CITIES = _split(
    """Paris, London, Berlin, Madrid, Rome, Lisbon, Vienna, Prague, Oslo, Dublin, Tokyo, Kyoto, Seoul, Beijing, Delhi, Mumbai, Cairo, Lagos, Nairobi,
    Lima, Quito, Bogota, Santiago, Montevideo, Toronto, Chicago, Boston, Denver, Seattle, Houston, Miami, Sydney, Perth, Auckland, Athens, Warsaw,
    Budapest, Helsinki, Stockholm, Copenhagen, Brussels, Zurich, Geneva, Milan, Naples, Porto, Seville, Valencia, Munich, Hamburg, Cologne, Moscow,
    Recife, Salvador, Curitiba, Manaus, Natal, Belo Horizonte, Rio de Janeiro, Sao Paulo, Porto Alegre, New York, San Francisco, Los Angeles,
    Mexico City, Buenos Aires, Cape Town, Hong Kong, New Delhi, Kuala Lumpur, Ho Chi Minh City, Tel Aviv, Salt Lake City, São Paulo, Brasília,
    Florianópolis, Goiânia, Maceió, Belém, München, Zürich, Málaga, Bogotá, Asunción, Kraków, Singapore, Bangkok, Hanoi, Jakarta, Manila, Istanbul,
    Ankara, Tehran, Baghdad, Riyadh, Dubai, Doha, Karachi, Lahore, Dhaka, Colombo, Havana, Austin, Dallas, Portland, Phoenix, Atlanta, Detroit"""
)
COUNTRIES = _split(
    """France, Germany, Spain, Italy, Portugal, Brazil, Argentina, Chile, Peru, Colombia, Mexico, Canada, Japan, China, India, Egypt, Kenya, Nigeria,
    Ghana, Morocco, Norway, Sweden, Finland, Denmark, Poland, Austria, Greece, Turkey, Russia, Ukraine, Ireland, Scotland, Iceland, Australia,
    New Zealand, South Africa, South Korea, United Kingdom, United States, Costa Rica, Saudi Arabia"""
)
COLOURS = _split("red, blue, green, yellow, orange, purple, black, white, brown, pink, grey, silver, gold, teal, navy, violet, beige, cyan")
ANIMALS = _split("cat, dog, horse, cow, sheep, goat, rabbit, parrot, turtle, hamster, fox, wolf, bear, lion, tiger, owl, eagle, duck, frog, whale, otter")
FOODS = _split(
    """pizza, pasta, rice, bread, cheese, soup, salad, sushi, tacos, curry, apples, bananas, oranges, grapes, eggs, milk, butter, honey, chocolate,
    coffee, tea, onions, garlic, tomatoes, potatoes, beans, lentils, olives, pepper, flour, sugar, salt, yogurt, mangoes, lemons, carrots"""
)
THINGS = _split(
    """book, lamp, chair, table, laptop, phone, camera, bicycle, guitar, piano, clock, mirror, bottle, umbrella, backpack, notebook, pencil, printer,
    keyboard, monitor, headphones, jacket, shoes, ticket, map, candle, blanket, basket, hammer, ladder, drone, tent, kettle, wallet, scarf, rope"""
)
JOBS = _split(
    """teacher, nurse, engineer, lawyer, farmer, pilot, baker, doctor, writer, painter, plumber, carpenter, chef, driver, student, translator,
    librarian, gardener, musician, photographer, dentist, architect, economist, biologist"""
)
ADJECTIVES = _split(
    """quiet, bright, small, large, old, new, quick, slow, warm, cold, simple, secret, final, early, late, public, private, weekly, daily, monthly,
    urgent, open, happy, strange, broken, golden, hidden, fresh, modern, local"""
)
NOUNS = _split(
    """river, mountain, garden, bridge, window, engine, market, island, forest, harbour, story, letter, song, meeting, project, report, budget,
    contract, holiday, birthday, recipe, journey, lesson, storm, winter, summer, morning, evening, journal, library, museum, station, castle, village,
    planet, signal, shadow, winner, question, answer, plan, dream, team, party, game, race, film, poem, wedding, concert, exam, festival"""
)
VERBS_ING = _split("buying, selling, reading, cleaning, painting, visiting, planning, fixing, moving, studying, calling, cooking, watering, checking, writing")
LANGUAGES = _split("English, Portuguese, Spanish, French, German, Italian, Dutch, Polish, Russian, Japanese, Korean, Chinese, Arabic, Hindi, Greek, Swedish")
CURRENCIES = _split("USD, EUR, GBP, BRL, JPY, CHF, CAD, AUD, CNY, INR, MXN, ARS, SEK, NOK, PLN, TRY")
DAYS = _split("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
MONTHS = _split("January, February, March, April, May, June, July, August, September, October, November, December")
DOMAINS = _split("example.com, mail.org, test.net, acme.io, correio.br, company.com, home.net, uni.edu")

SCRIPTS = (
    "абвгдежзиклмнопрстуфхцчшыэюя", "αβγδεζηθικλμνξοπρστυφχω", "あいうえおかきくけこさしすせそたちつてとなにぬねのはまみむもやゆよらりるれろ",
    "アイウエオカキクケコサシスセソタチツテトナニノハマミムメモヤラリルレロン", "東京大阪北海中国日本人山川天気明電車語水火木金土新上下左右白黒赤青花春夏秋冬",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي", "אבגדהוזחטיכלמנסעפצקרשת", "कखगघचछजझटठडढणतथदधनपफबभमयरलवशसह", "가나다라마바사아자차카타파하서울부산대구인천고노도로모보소오조",
    "àáâãäåçèéêëìíîïñòóôõöùúûü",
)  # fmt: skip
BLOCKS = ((0xA1, 0x24F), (0x250, 0x52F), (0x531, 0x6FF), (0x904, 0xE4F), (0x10A0, 0x17B3), (0x1E00, 0x27BF), (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1F6FF))
EMOJI = "😀😂😍🤖🚀🌍🌧🔥🎉🍕🐱🐶🌸⭐❤👍✅🎵📚🏠"

TRAIN_SYLLABLES = _split(
    """ba, be, bi, bo, da, de, di, do, fa, fe, fi, ga, go, ka, ke, ki, ko, la, le, li, lo, lu, ma, me, mi, mo, mu, na, ne, ni, no, pa, pe, pi, po,
    ra, re, ri, ro, ru, sa, se, si, so, ta, te, ti, to, tu, va, ve, vi, vo, za, ze, zi, zo, bran, clor, dram, flen, grop, plim, quar, sten, tram, vlor,
    bar, den, fil, gor, kan, lor, mer, nir, pol, rin, sul, tan, ver, zan, wick, ton, ley, burg, mond, shire"""
)
TEST_SYLLABLES = _split(
    """hu, ja, je, jo, ju, wa, we, wi, wo, xa, xe, xo, ya, ye, yo, cha, che, sho, shu, thi, phe, gla, gle, smo, sna, twi, dra, kro, bli, fru, spu, hex,
    jad, wem, yor, gub, nuv, hob, lix, pag, deft, molt, hask, jund, worb, zelt, quib, drux, glim, snod"""
)


def is_held_out(word: str) -> bool:
    """Whether a word is kept for evaluation: one in six is."""
    return zlib.crc32(word.encode()) % 6 == 0


class Words:
    """A source of random values; one half of the vocabulary is kept for evaluation."""

    def __init__(self, rng: Random, held_out: bool = False, pieces: Sequence[str] = ()) -> None:
        """``pieces`` are letters to join into words: the tokenizer's, so that training copies every token."""
        self.rng = rng
        self.held_out = held_out
        self.pieces = pieces
        self.inventory: Sequence[str] = ()

    @property
    def strange(self) -> float:
        """The share of names that mean nothing: training sees more of them than evaluation, so that names are read, not guessed."""
        return 0.35 if self.held_out else 0.55

    @property
    def nested(self) -> float:
        """The share of parameters that are drawn from lists and objects alone, which are hard to learn."""
        return 0.0 if self.held_out else 0.12

    def begin_conversation(self) -> None:
        """Most training conversations join all their invented words from a few pieces.

        Words then share pieces, so that copying needs more than the last token.
        """
        self.inventory = ()
        if self.pieces and self.chance(0.65):
            short = self.chance(0.7)
            source = [piece for piece in self.pieces if len(piece) < 5] if short else self.pieces
            self.inventory = [self.pick(source if self.chance(0.7) else TRAIN_SYLLABLES) for _ in range(self.rng.randint(8, 50))]

    def choose(self, words: Sequence[str]) -> str:
        """One of ``words`` from our half of the list (any, where our half of a short list is empty)."""
        for _ in range(100):
            word = self.rng.choice(words)
            if is_held_out(word) == self.held_out:
                return word
        return self.rng.choice(words)

    def pick(self, items: Sequence[T]) -> T:
        """Any one of ``items``: for phrasings, which both halves share."""
        return self.rng.choice(items)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.rng.random() < probability

    def invented(self) -> str:
        """A word that hardly exists, in lower case, from our half of all words."""
        while True:
            word = self._any_word()
            if is_held_out(word) == self.held_out:
                return word

    def _any_word(self) -> str:
        word = self._any_single_word()
        twice = not self.held_out and len(word) < 6 and self.chance(0.08)
        return word * 2 if twice else word

    def _any_single_word(self) -> str:
        if self.inventory:
            return "".join(self.rng.choice(self.inventory) for _ in range(self.rng.choice((1, 2, 2, 2, 3, 3, 3))))
        if self.pieces and self.chance(0.45):
            return "".join(self.rng.choice(self.pieces) for _ in range(self.rng.randint(1, 3)))
        if not self.held_out and self.chance(0.3):
            return "".join(self.rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(self.rng.randint(3, 8)))
        syllables = TEST_SYLLABLES if self.held_out else TRAIN_SYLLABLES
        return "".join(self.rng.choice(syllables) for _ in range(self.rng.randint(2, 3)))

    def foreign(self) -> str:
        """One or two words in another script, at times of any characters at all."""
        if self.chance(0.2):
            first, last = self.pick(BLOCKS)
            return "".join(chr(self.rng.randint(first, last)) for _ in range(self.rng.randint(1, 5)))
        script = self.rng.choice(SCRIPTS)
        words = ["".join(self.rng.choice(script) for _ in range(self.rng.randint(2, 6))) for _ in range(self.rng.randint(1, 2))]
        return " ".join(words)

    def person(self) -> str:
        """A first name, at times with a last name, at times invented."""
        roll = self.rng.random()
        if roll < 0.25:
            return self.invented().capitalize()
        if roll < 0.4:
            return f"{self.invented().capitalize()} {self.invented().capitalize()}"
        if roll < 0.7:
            return self.choose(FIRST_NAMES)
        return f"{self.choose(FIRST_NAMES)} {self.choose(LAST_NAMES)}"

    def first_name(self) -> str:
        """One name of one word."""
        return self.invented().capitalize() if self.chance(0.5) else self.choose(FIRST_NAMES)

    def city(self) -> str:
        """A city, real or invented."""
        return self.invented().capitalize() if self.chance(0.45) else self.choose(CITIES)

    def noun(self) -> str:
        """A common noun, real or invented."""
        return self.invented() if self.chance(0.55) else self.choose(self.pick((NOUNS, THINGS, ANIMALS, FOODS)))

    def phrase(self) -> str:
        """Two to four words in lower case that could be a title or a search."""
        forms = ("{a} {n}", "{n} {m}", "{a} {n} {m}", "{v} the {n}", "{n} of the {m}", "{v} {a} {n}", "{n} and {m}", "{n} in {c}", "{n} for {p}")
        text = self.pick(forms).format(
            a=self.choose(ADJECTIVES), n=self.noun(), m=self.noun(), v=self.choose(VERBS_ING), c=self.city(), p=self.first_name()
        )
        return text

    def sentence(self) -> str:
        """A short message."""
        forms = (
            "I will be late", "see you on {d}", "the {n} is ready", "please call me about the {n}", "dinner at {h}", "happy birthday {p}", "the {a} {n} has arrived",
            "thanks for the {n}", "do not forget the {n}", "we meet {p} in {c}", "your {n} is {a}", "bring the {n} and the {m}", "{v} the {n} took {i} hours",
        )  # fmt: skip
        text = self.pick(forms).format(
            d=self.pick(DAYS), n=self.noun(), m=self.noun(), a=self.choose(ADJECTIVES), p=self.first_name(), c=self.city(), v=self.choose(VERBS_ING),
            h=f"{self.rng.randint(1, 12)}", i=self.rng.randint(2, 20),
        )  # fmt: skip
        return text[0].upper() + text[1:] if self.chance(0.5) else text

    def email(self) -> str:
        """An address."""
        return f"{self.first_name().lower()}@{self.choose(DOMAINS) if self.chance(0.5) else self.invented() + '.com'}".replace(" ", ".")

    def date(self) -> str:
        """A date in ISO form."""
        return f"{self.rng.randint(1950, 2035)}-{self.rng.randint(1, 12):02d}-{self.rng.randint(1, 28):02d}"

    def time(self) -> str:
        """A time of day."""
        return f"{self.rng.randint(0, 23):02d}:{self.rng.choice((0, 15, 30, 45, self.rng.randint(0, 59))):02d}"

    def code(self) -> str:
        """An identifier such as ``AB-1042``."""
        letters = "".join(self.rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(self.rng.randint(1, 3)))
        return self.pick(("{l}-{n}", "{l}{n}", "#{n}", "{n}", "{l}_{n}")).format(l=letters, n=self.rng.randint(10, 99999))

    def path(self) -> str:
        """A file name or path."""
        name = self.invented() if self.chance(0.5) else self.choose(NOUNS)
        file = f"{name}.{self.pick(('txt', 'csv', 'pdf', 'json', 'py', 'md', 'png'))}"
        return file if self.chance(0.5) else f"/{self.noun()}/{file}"

    def url(self) -> str:
        """A web address."""
        return f"https://{self.invented()}.{self.pick(('com', 'org', 'net', 'io'))}" + (f"/{self.noun()}" if self.chance(0.5) else "")

    def integer(self) -> int:
        """A whole number, mostly small."""
        return self.rng.choice((self.rng.randint(0, 12), self.rng.randint(2, 100), self.rng.randint(2, 100), self.rng.randint(100, 20000), -self.rng.randint(1, 50)))

    def decimal(self) -> float:
        """A number with one or two decimals."""
        return round(self.rng.uniform(0, self.rng.choice((1, 10, 100, 1000))), self.rng.randint(1, 2)) + 0.0

    def identifier(self, words: int = 2) -> str:
        """A name for a function or field that means nothing."""
        return "_".join(self.invented() for _ in range(self.rng.randint(1, words)))
