"""What Storyland itself says next: the exact probability of every word behind a beginning.

``beginnings`` has one entry for each kind of hero. The generator draws a whole character at once; here name, trait and
the kinds of other characters are chosen when their words are read, so that equal prefixes share one entry.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, TypeVar

from .grammar import PRONOUN_SLOTS, PRONOUNS, SLOT, article, load, split_slot

Option = TypeVar("Option")
Memory = dict[str, str]  # slot -> word
Part = tuple[bool, str]  # whether it is a slot; the slot, or text as it stands
Way = tuple[int, int, tuple[Part, ...]]  # number of a plot, of its next beat, what the sentence has yet to say
PROMPT = -1  # comes before beat 0


@dataclass(eq=False)
class Ways:
    """Ways to go on, and how likely each is."""

    each: dict[Way, float] = field(default_factory=dict)

    def add(self, way: Way, likely: float) -> None:
        self.each[way] = self.each.get(way, 0) + likely

    @cached_property
    def total(self) -> float:
        return sum(self.each.values())

    @cached_property
    def ended(self) -> bool:
        return all(not parts for _, _, parts in self.each)

    @cached_property
    def by_part(self) -> dict[tuple[Part | None, str], dict[str, "Ways"]]:
        """By the next part and, as plots differ in that, the type of word it asks for: the ways behind it, by the gap
        that comes first. No part is the end."""
        found: dict[tuple[Part | None, str], dict[str, Ways]] = {}
        for way, likely in self.each.items():
            plot, beat, parts = way
            if not parts:
                found.setdefault((None, ""), {}).setdefault("", Ways()).add(way, likely)
                continue
            slot, head = parts[0]
            word_type = load().plots[plot].types.get(head.removeprefix("a."), "") if slot else ""
            behind = found.setdefault((parts[0], word_type), {})
            if len(parts) > 1:
                behind.setdefault("", Ways()).add((plot, beat, parts[1:]), likely)
                continue
            for onward, share in _next_sentences(plot, max(beat, 0)):
                gap = "" if not onward[2] else "\n" if beat == PROMPT else " "
                behind.setdefault(gap, Ways()).add(onward, likely * share)
        return found


@dataclass(slots=True)
class Telling:
    """A story on its way, or many that are alike so far."""

    text: str  # said, and not read yet
    begins: bool  # whether a sentence begins behind the text
    memory: Memory
    ways: Ways
    scale: float

    @property
    def weight(self) -> float:
        """How likely it is, of all stories."""
        return self.scale * self.ways.total


def weight(tellings: Iterable[Telling]) -> float:
    """How likely tellings are together, of all stories."""
    return sum(telling.weight for telling in tellings)


def beginnings() -> tuple[Telling, ...]:
    """All stories before their first word, by the kind of the hero: half of them with a story prompt.

    Their expansions stay in memory as long as they do.
    """
    grammar = load()
    return tuple(
        Telling("", True, {"place": place, "A.kind": kind}, _ways(grammar.plot_hand(kind)), share)
        for place, one in _uniform(tuple(grammar.places))
        for kind, share in ((kind, one * other) for kind, other in _uniform(grammar.places[place]))
    )


def _ways(plots: tuple[int, ...]) -> Ways:
    """The ways to begin a story of one of these plots."""
    ways = Ways()
    for number, likely in _uniform(plots):
        for form, share in _uniform(load().plots[number].prompts):
            ways.add((number, PROMPT, _parts(form)), likely * share / 2)
        for way, share in _next_sentences(number, 0):
            ways.add(way, likely * share / 2)
    return ways


def next_words(
    tellings: Iterable[Telling],
    first_word: Callable[[str], str | None],
    floor: float = 0.0,
) -> dict[str, list[Telling]]:
    """How tellings go on, by the next word that each says; the empty word is the end.

    ``first_word`` splits a text: its first word, or None while more text could make that word longer. Tellings less
    likely than ``floor`` are left out.
    """
    found: dict[str, list[Telling]] = {}
    tellings = list(tellings)
    while tellings:
        telling = tellings.pop()
        word = first_word(telling.text)
        if word is None and not telling.ways.ended:
            tellings.extend(further for further in _expand(telling) if further.weight >= floor)
            continue
        word = telling.text if word is None else word
        found.setdefault(word, []).append(replace(telling, text=telling.text[len(word) :]))
    return found


@cache
def _uniform(options: tuple[Option, ...]) -> tuple[tuple[Any, float], ...]:
    """Options, each with its probability."""
    return tuple((option, 1 / len(options)) for option in options)


@cache
def _parts(form: str) -> tuple[Part, ...]:
    return tuple((bool(index % 2), part) for index, part in enumerate(SLOT.split(form)) if part)


@cache
def _next_sentences(plot: int, beat: int) -> list[tuple[Way, float]]:
    """The sentences that may come next in a plot; one without parts is the end."""
    beats = load().plots[plot].beats
    if beat == len(beats):
        return [((plot, beat, ()), 1.0)]
    return [((plot, beat + 1, _parts(form)), share) for form, share in _uniform(beats[beat].forms)]


def _expand(telling: Telling) -> Iterator[Telling]:
    """All tellings that are one part longer."""
    for (part, word_type), behind in telling.ways.by_part.items():
        slot, head = part or (False, "")
        words = _words(telling.memory, head, word_type) if slot else [(head, telling.memory, 1.0)]
        for word, memory, share in words:
            said = telling.text + (word[:1].upper() + word[1:] if telling.begins else word)
            for gap, rest in behind.items():
                yield Telling(said + gap, bool(gap), memory, rest, telling.scale * share)


def _words(memory: Memory, slot: str, word_type: str) -> Iterator[tuple[str, Memory, float]]:
    """Words for a slot, each with what is remembered then and how likely it is."""
    if slot.startswith("a."):
        yield from ((article(word), after, share) for word, after, share in _words(memory, slot[2:], word_type))
        return
    if slot.startswith(":"):
        yield from ((word, memory, share) for word, share in _uniform(load().hand(slot[1:], memory["place"])))
        return
    role, name = split_slot(slot)
    if role:
        yield from _of_character(memory, role, name)
    elif slot in memory:
        yield memory[slot], memory, 1.0
    else:
        for word, share in _uniform(load().hand(word_type, memory["place"])):
            yield word, {**memory, slot: word}, share


def _of_character(memory: Memory, role: str, name: str) -> Iterator[tuple[str, Memory, float]]:
    pronoun = name.lower() in PRONOUN_SLOTS
    chosen = "gender" if pronoun else "kind" if name in ("home", "food") else name
    for after, share in _chosen(memory, role, chosen):
        word = after[f"{role}.{chosen}"]
        if pronoun:
            word = PRONOUNS[word][PRONOUN_SLOTS.index(name.lower())]
            word = word.capitalize() if name[0].isupper() else word
        elif chosen != name:
            word = load().kinds[word][name == "food"]
        yield word, after, share


def _chosen(memory: Memory, role: str, what: str) -> Iterator[tuple[Memory, float]]:
    """A character's name, kind, trait or gender is chosen, if it is not yet; the gender comes before the name."""
    key = f"{role}.{what}"
    if key in memory:
        yield memory, 1.0
        return
    for before, one in _chosen(memory, role, "gender") if what == "name" else [(memory, 1.0)]:
        for option, share in _uniform(_options(before, role, what)):
            yield {**before, key: option}, one * share


def _options(memory: Memory, role: str, what: str) -> tuple[str, ...]:
    """The genders, kinds, traits or names that a character chooses among."""
    place = memory["place"]
    if what == "gender":
        return tuple(PRONOUNS)
    if what == "kind":
        return load().places[place]
    return load().hand("trait", place) if what == "trait" else load().names(memory[f"{role}.gender"], place, role)
