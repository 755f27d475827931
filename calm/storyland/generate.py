"""Generates stories: draws a hero, a plot, a cast and one sentence form for each beat, and remembers the words.

Every choice is uniform and among a handful: a chunk of text has few continuations that are about equally likely, and a
story gets its variety from many such choices one after another.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TypeVar

from .grammar import PRONOUN_SLOTS, PRONOUNS, SLOT, Beat, Plot, article, load, split_slot

Option = TypeVar("Option")

PRIMER_PLOTS = 4


def _choose(draw: Callable[[], float], options: Sequence[Option]) -> Option:
    return options[int(draw() * len(options))]


class Memory(dict):
    """The words of one story, drawn when a sentence first asks for them. Fresh draws (``:type``) are not kept.

    Place and kind of the hero are drawn first, and then the plot, among ``plots`` or those that the kind has.
    """

    def __init__(self, draw: Callable[[], float], plots: Sequence[Plot] = ()):
        super().__init__()
        self.draw, self.grammar = draw, load()
        self["place"] = place = self.choose(tuple(self.grammar.places))
        self.kind = self.choose(self.grammar.places[place])
        self.plot: Plot = _choose(draw, plots or [self.grammar.plots[n] for n in self.grammar.plot_hand(self.kind)])

    def choose(self, options: Sequence[str]) -> str:
        return _choose(self.draw, options)

    def __missing__(self, slot: str) -> str:
        if slot.startswith("a."):
            return article(self[slot[2:]])
        if slot.startswith(":"):
            return self.choose(self.grammar.hand(slot[1:], self["place"]))
        role, _ = split_slot(slot)
        if not role:
            self[slot] = word = self.choose(self.grammar.hand(self.plot.types[slot], self["place"]))
            return word
        self._cast(role)
        return self[slot]

    def _cast(self, role: str) -> None:
        """Draws a whole character at once. All characters of a story live at the same place."""
        grammar = self.grammar
        gender = self.choose(tuple(PRONOUNS))
        kind = self.kind if role == "A" else self.choose(grammar.places[self["place"]])
        name = self.choose(grammar.names(gender, self["place"], role))
        home, food = grammar.kinds[kind]
        self[role] = name
        self[f"{role}.kind"], self[f"{role}.home"], self[f"{role}.food"] = kind, home, food
        self[f"{role}.trait"] = self.choose(grammar.hand("trait", self["place"]))
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
    return _generate(random.Random(seed))


def _generate(
    rng: random.Random,
    plots: Sequence[Plot] = (),
    prompted: float = 0.5,
    choose_form: Callable[[Memory, Beat], str] = lambda memory, beat: memory.choose(beat.forms),
) -> str:
    """A story; ``prompted`` is the probability of a story prompt."""
    memory = Memory(rng.random, plots)
    first_line = _prompt(memory) if rng.random() < prompted else ""
    return first_line + " ".join(_sentence(choose_form(memory, beat), memory) for beat in memory.plot.beats)


def _prompt(memory: Memory) -> str:
    return _sentence(memory.choose(memory.plot.prompts), memory) + "\n"


def prompt(seed: int) -> str:
    """The story prompt of this seed, with the newline that ends it.

    Plots, names and kinds are uniformly distributed.
    """
    return _prompt(Memory(random.Random(seed).random))


@cache
def _openings() -> tuple[str, ...]:
    """What each form of story prompt says before its first slot."""
    return tuple({form.partition("$")[0] for plot in load().plots for form in plot.prompts})


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
    """``n`` stories for the first steps of training: four plots in the first form of each beat, so that a model soon
    learns to copy names."""
    plots = load().plots[:PRIMER_PLOTS]
    return (
        _generate(random.Random(s), plots, choose_form=lambda _, beat: beat.forms[0]) for s in range(seed, seed + n)
    )


def prompted_stories(n: int, seed: int = 0) -> Iterator[str]:
    """``n`` stories that all begin with a story prompt, so that a model learns to copy from it."""
    return (_generate(random.Random(s), prompted=1.0) for s in range(seed, seed + n))
