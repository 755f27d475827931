"""Reads the grammar of Storyland from plain-text files.

``grammar/words.txt`` holds typed word lists, ``grammar/shared.txt`` beats that many plots share, and
``grammar/plots/*.txt`` the plots. A plot is a list of beats, a beat a list of sentence forms, a form one line of text
with slots. The header of a plot names its slots and their types, the words of its story prompt (``title``), and the
shared beats that come before (``opening``) and after (``closing``) its own.

A story begins with a place and a hero's kind that lives there, all equally likely. The place determines which few words
of each type a story may use, and the kind determines its few plots: their hands (``Grammar.hand``, ``plot_hand``). All
plots and words of a hand and all forms of a beat are equally likely.

The slots of a form:

=============  =====================================================================================================
``$A``         name of the hero (``$B`` the friend, ``$C`` the helper)
``$A.kind``    the hero's kind; likewise ``trait``, ``home``, ``food`` (a kind has its own home and food)
``$he``        the hero's pronoun, likewise ``$him $his $himself``; ``$B.he`` that of the friend; ``$He`` is capitalised
``$thing``     a word of the type that the plot's header gives to ``thing``, the same through the whole story
``$:colour``   a word of the type ``colour``, drawn afresh
``$a.X``       the slot X with its article
=============  =====================================================================================================
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

FOLDER = Path(__file__).parent / "grammar"
SLOT = re.compile(r"\$((?:a\.)?:?[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z]+)*)")
ROLES = ("A", "B", "C")
PRONOUNS = {"he": "he him his himself".split(), "she": "she her her herself".split()}
PRONOUN_SLOTS = ("he", "him", "his", "himself")
HAND = 5
"""Words of a type that a story chooses among, at most."""
PLOT_HAND = 6
"""Plots that a kind of hero has."""
# What every plot may use without declaring it: slot -> word type.
DEFAULT_TYPES = {
    "place": "place",
    "weather": "weather",
    "daypart": "daypart",
    "treat": "treat",
    "drink": "drink",
    "virtue": "virtue",
    "time": "time",
}


@dataclass(frozen=True)
class Beat:
    """A story contains one of the sentence forms of each beat."""

    forms: tuple[str, ...]


@dataclass
class Plot:
    """A story line: its name, the forms of its story prompt, the types of its slots, its beats in order."""

    name: str
    title: str = ""
    types: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_TYPES))
    beats: list[Beat] = field(default_factory=list)
    prompts: tuple[str, ...] = ()


Option = TypeVar("Option")


def deal(options: Sequence[Option], size: int, number: int) -> tuple[Option, ...]:
    """Hand ``number`` of the options, dealt like cards into as few hands of at most ``size`` as possible; the numbers
    go round."""
    hands = -(-len(options) // size)
    return tuple(options[number % hands :: hands])


@dataclass(frozen=True)
class Grammar:
    """All of Storyland: ``words[type]``, ``kinds[kind] = (home, food)``, ``places[place]`` (the kinds that live there),
    the plots, the number of forms."""

    words: dict[str, tuple[str, ...]]
    kinds: dict[str, tuple[str, str]]
    places: dict[str, tuple[str, ...]]
    plots: tuple[Plot, ...]
    gender: dict[str, str]
    form_count: int

    def hand(self, word_type: str, place: str) -> tuple[str, ...]:
        """The words of a type in stories of this place."""
        return deal(self.words[word_type], HAND, list(self.places).index(place))

    def names(self, gender: str, place: str, role: str) -> tuple[str, ...]:
        """The names of a role in stories of this place; other roles have other names there."""
        return deal(self.words[f"name.{gender}"], HAND, list(self.places).index(place) + ROLES.index(role))

    def plot_hand(self, kind: str) -> tuple[int, ...]:
        """The numbers of the plots that heroes of this kind have."""
        return deal(range(len(self.plots)), PLOT_HAND, list(self.kinds).index(kind))


class GrammarError(ValueError):
    """A grammar file says something that cannot be read; the message names the plot and the line."""


def split_slot(slot: str) -> tuple[str, str]:
    """``"B.kind"`` -> ``("B", "kind")``, ``"he"`` -> ``("A", "he")``, ``"thing"`` -> ``("", "thing")``; no article."""
    role, dot, attribute = slot.partition(".")
    if dot:
        return role, attribute
    if role in ROLES:
        return role, "name"
    if role.lower() in PRONOUN_SLOTS:
        return "A", role
    return "", slot


def strip_article(slot: str) -> tuple[bool, str]:
    return (True, slot[2:]) if slot.startswith("a.") else (False, slot)


def article(phrase: str) -> str:
    """The phrase behind "a" or "an", by its first sound (spelling is enough for the words of Storyland)."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uku", "uni", "use", "one"))
    return f"{'an' if vowel else 'a'} {phrase}"


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in text if not line.startswith("#")]


def _read_words() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, str]], dict[str, tuple[str, ...]]]:
    words: dict[str, list[str]] = {}
    kinds: dict[str, tuple[str, str]] = {}
    places: dict[str, list[str]] = {}
    section = ""
    for line in filter(None, _lines(FOLDER / "words.txt")):
        if line.startswith("["):
            section = line.strip("[]")
            continue
        entries = [entry.strip() for entry in line.split(",") if entry.strip()]
        if section.startswith("table"):
            kind, place, home, food = entries
            kinds[kind] = (home, food)
            places.setdefault(place, []).append(kind)
        else:
            words.setdefault(section, []).extend(entries)
    words["place"] = list(places)
    return (
        {name: tuple(entries) for name, entries in words.items()},
        kinds,
        {place: tuple(members) for place, members in places.items()},
    )


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line:
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _read_pools() -> dict[str, tuple[str, ...]]:
    pools = {}
    for head, *forms in _blocks(_lines(FOLDER / "shared.txt")):
        pools[head.removeprefix("pool: ")] = tuple(forms)
    return pools


def _read_plots(path: Path, pools: dict[str, tuple[str, ...]]) -> list[Plot]:
    plots: list[Plot] = []
    closing: list[Beat] = []
    for block in _blocks(_lines(path)):
        if not block[0].startswith("plot: "):
            plots[-1].beats.append(_read_beat(block, pools))
            continue
        if plots:
            plots[-1].beats += closing
        header = dict(line.split(": ", 1) for line in block)
        plot = Plot(header.pop("plot"), header.pop("title"))
        opening, closing = (
            [_read_beat([f"@{name}"], pools) for name in header.pop(key).split()] for key in ("opening", "closing")
        )
        plot.types |= header
        plot.beats += opening
        plot.prompts = tuple(form.replace("$title", plot.title) for form in pools["prompt"])
        plots.append(plot)
    plots[-1].beats += closing
    return plots


def _read_beat(lines: list[str], pools: dict[str, tuple[str, ...]]) -> Beat:
    """The beat of a block: its forms, or those of the pool that it names after ``@``."""
    return Beat(tuple(form for line in lines for form in (pools[line[1:]] if line.startswith("@") else [line])))


def _validate(plot: Plot, words: dict[str, tuple[str, ...]]) -> None:
    attributes = {"name", "kind", "trait", "home", "food", *PRONOUN_SLOTS}
    for form in plot.prompts + tuple(form for beat in plot.beats for form in beat.forms):
        for slot in SLOT.findall(form):
            slot = strip_article(slot)[1]
            role, name = split_slot(slot)
            known = (
                slot[1:] in words
                if slot.startswith(":")
                else (role in ROLES and name.lower() in attributes)
                if role
                else plot.types.get(name) in words
            )
            if not known:
                raise GrammarError(f"plot {plot.name}: the slot ${slot} is not known in: {form}")


@lru_cache(maxsize=1)
def load() -> Grammar:
    """The grammar, read once per process. Raises GrammarError when a form uses a slot that nothing declares."""
    words, kinds, places = _read_words()
    pools = _read_pools()
    plots = [plot for path in sorted((FOLDER / "plots").glob("*.txt")) for plot in _read_plots(path, pools)]
    for plot in plots:
        _validate(plot, words)
    gender = {name: pronoun for pronoun in PRONOUNS for name in words[f"name.{pronoun}"]}
    forms = {form for plot in plots for beat in plot.beats for form in beat.forms}
    return Grammar(words, kinds, places, tuple(plots), gender, len(forms))
