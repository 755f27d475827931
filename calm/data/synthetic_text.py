"""Synthetic text that is neither story nor novel: names, numbers, code-like lines, other scripts.

Autoencoders are trained on a share of it, so that they restore anything that a user types.
"""

import random
import string
from collections.abc import Iterator

SCRIPTS = {
    "latin with accents": "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœšžłąęćńśźżđőűğışœÀÉÖÜßÑ",
    "greek": "αβγδεζηθικλμνξοπρστυφχψωάέήίόύώΑΒΓΔΘΛΞΠΣΦΨΩ",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюяАБВГДЕЖЗИКЛМНОПРСТ",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשתםןךףץ",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "devanagari": "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह",
    "thai": "กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวศษสหอฮ",
    "kana": "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
    "アイウエオカキクケコ",
}
RANGES = {"han": (0x4E00, 0x9FA5), "hangul": (0xAC00, 0xD7A3), "emoji": (0x1F300, 0x1F64F)}
SYMBOLS = "€£¥§©®°±µ¶·×÷–—‘’“”„…†‡•←↑→↓∀∂∃∑√∞≈≠≤≥½¼¾²³★☆✓✗♥"
KEYWORDS = (
    "def class return if else for while import from try with lambda const let function var int void public".split()
)
OPERATORS = "= == != < > <= >= + - * / % += -= && || -> => :: . ,".split()


def _word(rng: random.Random, letters: str, low: int = 1, high: int = 9) -> str:
    return "".join(rng.choices(letters, k=rng.randint(low, high)))


def _name(rng: random.Random) -> str:
    vowels, consonants = "aeiouy", "bcdfghjklmnprstvwz"
    syllables = (rng.choice(consonants) + rng.choice(vowels) + rng.choice(["", "n", "r", "s", "l"]) for _ in range(9))
    parts = ["".join(next(syllables) for _ in range(rng.randint(1, 3))).capitalize() for _ in range(rng.randint(1, 3))]
    return rng.choice([" ", "-", " "]).join(parts)


def _number(rng: random.Random) -> str:
    size = rng.randint(1, 9)
    digits = str(rng.randrange(10**size))
    forms = (
        lambda: digits,
        lambda: f"{int(digits):,}",
        lambda: f"{rng.uniform(-1000, 1000):.{rng.randint(1, 5)}f}",
        lambda: f"{rng.randint(1, 31):02d}.{rng.randint(1, 12):02d}.{rng.randint(1800, 2100)}",
        lambda: f"{rng.randint(1800, 2100)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        lambda: f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}",
        lambda: f"${rng.randint(1, 999)}.{rng.randint(0, 99):02d}",
        lambda: f"{rng.randint(1, 100)}%",
        lambda: f"0x{rng.getrandbits(32):x}",
        lambda: f"+{rng.randint(1, 99)} {rng.randint(100, 999)} {rng.randint(1000, 9999999)}",
    )
    return rng.choice(forms)()


def _identifier(rng: random.Random) -> str:
    parts = [_word(rng, string.ascii_lowercase, 1, 7) for _ in range(rng.randint(1, 3))]
    return rng.choice([str.lower, str.upper, lambda s: s.title().replace("_", "")])("_".join(parts))


def _code(rng: random.Random) -> str:
    lines, indent = [], 0
    for _ in range(rng.randint(2, 7)):
        tokens = [rng.choice(KEYWORDS)] if rng.random() < 0.5 else []
        for _ in range(rng.randint(1, 5)):
            atom = rng.choice((_identifier, _number, lambda r: f'"{_word(r, string.ascii_letters)}"'))(rng)
            call = rng.random()
            tokens += [
                f"{atom}({_identifier(rng)})" if call < 0.2 else f"{atom}[{_number(rng)}]" if call < 0.3 else atom
            ]
            tokens += [rng.choice(OPERATORS)]
        lines.append(" " * 4 * indent + " ".join(tokens[:-1]) + rng.choice([":", ";", " {", "", " }", ")"]))
        indent = max(0, min(4, indent + rng.choice((-1, 0, 0, 1))))
    return "\n".join(lines)


def _other_script(rng: random.Random) -> str:
    script = rng.choice([*SCRIPTS, *RANGES])
    if script in SCRIPTS:
        return " ".join(_word(rng, SCRIPTS[script]) for _ in range(rng.randint(2, 10)))
    low, high = RANGES[script]
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(2, 16)))


def _symbols(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return "".join(chr(rng.choice((rng.randint(32, 0x2FF), rng.randint(0x370, 0xD7FF)))) for _ in range(12))
    letters = rng.choice((string.printable[:95], string.punctuation + SYMBOLS, string.ascii_letters, SYMBOLS + " "))
    return _word(rng, letters, 4, 30)


def corpus(n: int, seed: int = 0) -> Iterator[str]:
    """``n`` short documents that depend on the seed alone."""
    rng = random.Random(seed)
    for _ in range(n):
        make = rng.choice((_name, _number, _code, _other_script, _other_script, _symbols))
        separator = rng.choice([" ", ", ", "\n", "; ", ": ", " - "])
        yield separator.join(make(rng) for _ in range(rng.randint(2, 8)))
