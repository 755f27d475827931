"""Tells stories: draws a plot, a cast and one sentence form a beat, and remembers every word it has drawn."""

import random
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import TypeVar

from .grammar import DEFAULT_TYPES, PRONOUN_SLOTS, PRONOUNS, ROLES, SLOT, Plot, article, load, split_slot

Option = TypeVar("Option")

WORD_SKEW, NAME_SKEW, FORM_SKEW, PLOT_SKEW = 2.0, 1.5, 2.5, 1.5
"""The weight of the r-th word of a list, name, form of a beat, or plot is r to minus this power: some are common, most
are rare, as in any language (Zipf), so that a lower temperature has something to prefer. Kinds, and the words
of what a story is about, go by the names."""

ROLE_STRIDE = 5
"""The friend's commonest name and kind stand this many places behind the hero's, the helper's as many behind those."""


@cache
def _cumulative(count: int, skew: float) -> list[float]:
    return list(accumulate(rank**-skew for rank in range(1, count + 1)))


def _choose(draw: Callable[[], float], options: Sequence[Option], skew: float) -> Option:
    weights = _cumulative(len(options), skew)
    return options[bisect(weights, draw() * weights[-1])]


@cache
def rotated(options: tuple[str, ...], start: int) -> tuple[str, ...]:
    """The same list, beginning elsewhere."""
    return options[start:] + options[:start]


PRIMER_PLOTS, PRIMER_SKEW = 4, 8.0
"""The primer has few plots, nearly always in their first forms."""

PROMPTED_SKEW = 0.75
"""Prompted stories draw plots, names, kinds and things more evenly than the language does."""


class Memory(dict):
    """The words of one story, drawn when a sentence first asks for them. Fresh draws (``:type``) are not kept."""

    def __init__(self, plot: Plot, draw, name_skew: float):
        super().__init__()
        self.plot, self.draw, self.name_skew, self.grammar = plot, draw, name_skew, load()

    def choose(self, options: Sequence[str], skew: float = WORD_SKEW) -> str:
        return _choose(self.draw, options, skew)

    def __missing__(self, slot: str) -> str:
        if slot.startswith("a."):
            return article(self[slot[2:]])
        if slot.startswith(":"):
            return self.choose(self.grammar.words[slot[1:]])
        role, _ = split_slot(slot)
        if not role:
            skew = WORD_SKEW if slot in DEFAULT_TYPES else self.name_skew
            self[slot] = word = self.choose(self.grammar.words[self.plot.types[slot]], skew)
            return word
        self._cast(role)
        return self[slot]

    def _cast(self, role: str) -> None:
        """Draws a whole character at once, of a name and kind that nobody else in the story has."""
        words = self.grammar.words
        start = ROLE_STRIDE * ROLES.index(role)
        gender = "he" if self.draw() < 0.5 else "she"
        while (name := self.choose(rotated(words[f"name.{gender}"], start), self.name_skew)) in self.values():
            pass
        while (kind := self.choose(rotated(words["kind"], start), self.name_skew)) in self.values():
            pass
        home, food = self.grammar.kinds[kind]
        self[role] = name
        self[f"{role}.kind"], self[f"{role}.home"], self[f"{role}.food"] = kind, home, food
        self[f"{role}.trait"] = self.choose(words["trait"])
        for slot, pronoun in zip(PRONOUN_SLOTS, PRONOUNS[gender]):
            for key, word in ((slot, pronoun), (slot.capitalize(), pronoun.capitalize())):
                self[f"{role}.{key}"] = word
                if role == "A":
                    self[key] = word


@cache
def _template(form: str) -> str:
    return SLOT.sub(r"%(\1)s", form.replace("%", "%%"))


def _sentence(form: str, memory: Memory) -> str:
    text = _template(form) % memory
    return text if text[0] != '"' and text[0].isupper() else text[0].upper() + text[1:]


def story(seed: int) -> str:
    """The story of this seed, always the same: a story prompt (for half of the seeds), a newline, the story.

    Seeds from 10,000,000 up are kept out of all training (``calm.storyland.SPLITS``).
    """
    return _tell(random.Random(seed), load().plots)


def _tell(
    rng: random.Random,
    plots: Sequence[Plot],
    form_skew: float = FORM_SKEW,
    plot_skew: float = PLOT_SKEW,
    name_skew: float = NAME_SKEW,
    prompted: float = 0.5,
) -> str:
    draw = rng.random
    memory = Memory(_choose(draw, plots, plot_skew), draw, name_skew)
    first_line = _prompt(memory, form_skew) if draw() < prompted else ""
    beats = (beat for beat in memory.plot.beats if not beat.optional or draw() < 0.5)
    return first_line + " ".join(_sentence(memory.choose(beat.forms, form_skew), memory) for beat in beats)


def _prompt(memory: Memory, form_skew: float) -> str:
    return _sentence(memory.choose(memory.plot.prompts, form_skew), memory) + "\n"


def prompt(seed: int) -> str:
    """The story prompt of this seed, with the newline that ends it.

    Plots, forms, names, kinds and things are uniformly distributed.
    """
    draw = random.Random(seed).random
    return _prompt(Memory(_choose(draw, load().plots, 0.0), draw, 0.0), 0.0)


SAMPLED_PROMPTS = 200
"""Story prompts that show how each form begins."""


@cache
def _openings() -> tuple[str, ...]:
    """The first three words of each form of story prompt, such as "A story about "."""
    prompts = (prompt(seed) for seed in range(SAMPLED_PROMPTS))
    return tuple({" ".join(text.split(" ")[:3]) + " " for text in prompts})


def with_line_end(text: str) -> str:
    """Adds the newline that ends a story prompt to a text that is a story prompt without it.

    Other texts stay, for example a story prompt with the first sentences of its story.
    """
    is_prompt = text.startswith(_openings()) and text.endswith(".") and "\n" not in text
    return f"{text}\n" if is_prompt else text


def corpus(n: int, seed: int = 0) -> Iterator[str]:
    """``n`` stories, of the seeds ``seed``, ``seed + 1``, and so on."""
    return (story(s) for s in range(seed, seed + n))


def primer(n: int, seed: int = 0) -> Iterator[str]:
    """``n`` stories for the first steps of training: few sentence forms, so that a model soon learns to copy names."""
    plots = load().plots[:PRIMER_PLOTS]
    return (_tell(random.Random(s), plots, form_skew=PRIMER_SKEW) for s in range(seed, seed + n))


def prompted_stories(n: int, seed: int = 0) -> Iterator[str]:
    """``n`` stories that all begin with a story prompt, of common and rare words alike: a model that guesses the common
    word fails there, so it learns to copy from the prompt."""
    plots = load().plots
    return (
        _tell(random.Random(s), plots, plot_skew=PROMPTED_SKEW, name_skew=PROMPTED_SKEW, prompted=1.0)
        for s in range(seed, seed + n)
    )
