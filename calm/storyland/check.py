"""Says how good a text is in the language of Storyland, by parsing it with the grammar that generates it."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from .grammar import PRONOUN_SLOTS, PRONOUNS, ROLES, SLOT, Plot, article, load, split_slot, strip_article

Facts = dict[str, str]
Readings = list[tuple[int, int, Facts]]
"""All readings of a sentence: number of the plot, number of the beat, what the sentence states."""


@dataclass(frozen=True)
class Check:
    """The result of ``check``. Shares lie in [0, 1]; they are 0 for a text without a complete sentence."""

    well_formed: float
    """Share of complete sentences that match a form with words of the right types."""
    consistent: float
    """Share of stories whose sentences follow one plot with one cast and one set of things. Whether words belong to the
    place of the story is not checked."""
    sentences: int
    stories: int
    prompted: int
    """Number of stories that begin with a story prompt."""
    prompt_followed: float
    """Share of the prompted stories that name the hero and every thing of their prompt (1 if there are none)."""
    ill_formed: tuple[str, ...]
    """The complete sentences that match no form."""
    plots: tuple[str | None, ...]
    """The plot of each story: the one that explains most of its sentences, if it explains at least half of them and
    more than any other plot; otherwise None."""
    heroes: tuple[tuple[str | None, str | None], ...]
    """Name and kind of each story's hero; None for what the story does not say in its plot."""


@dataclass(frozen=True)
class Form:
    """A sentence form as a pattern, with its slots and the places (plot, beat) where a story may use it."""

    pattern: re.Pattern
    slots: tuple[str, ...]
    places: tuple[tuple[int, int], ...]


PROMPT = -1  # the beat number of the story prompt
WORD = re.compile(r"[^\W\d_]+")


@lru_cache(maxsize=1)
def _vocabulary() -> dict[str, frozenset[str]]:
    return {name: frozenset(words) for name, words in load().words.items()}


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    """All words of the grammar in lower case: of its word lists, its tables, its forms and its pronouns."""
    grammar = load()
    forms = [form for plot in grammar.plots for beat in plot.beats for form in beat.forms]
    forms += [form for plot in grammar.plots for form in plot.prompts]
    lists = [
        *grammar.words.values(),
        grammar.kinds,
        *grammar.kinds.values(),
        *PRONOUNS.values(),
        [SLOT.sub(" ", form) for form in forms],
    ]
    return frozenset(word for texts in lists for text in texts for word in WORD.findall(text.lower()))


def vocabulary_share(text: str) -> float:
    """Share of the words of a text that occur in Storyland, in [0, 1]; 1 for a text without words.

    A word is a run of letters of any script; upper and lower case count as the same.
    """
    words = WORD.findall(text.lower())
    return sum(word in _known_words() for word in words) / len(words) if words else 1.0


@lru_cache(maxsize=1)
def _index() -> dict[str, list[Form]]:
    """Forms by the rarest of their literal words, so that a sentence is tried against a handful of patterns only."""
    places: dict[str, list[tuple[int, int]]] = {}
    for number, plot in enumerate(load().plots):
        for beat, forms in enumerate([plot.prompts, *(beat.forms for beat in plot.beats)], PROMPT):
            for form in forms:
                places.setdefault(form, []).append((number, beat))
    literal = {form: _words(SLOT.sub(" ", form)) for form in places}
    frequency = Counter(word for words in literal.values() for word in words)
    index: dict[str, list[Form]] = {}
    for form, where in places.items():
        parts = SLOT.split(form)
        plot = load().plots[where[0][0]]
        body = "".join(re.escape(part) if i % 2 == 0 else _capture(part, plot) for i, part in enumerate(parts))
        key = min(literal[form], key=lambda word: (frequency[word], word), default="")
        index.setdefault(key, []).append(Form(re.compile(body), tuple(parts[1::2]), tuple(where)))
    return index


def _capture(slot: str, plot: Plot) -> str:
    """The group that catches a slot: as narrow as its type allows, so that neighbouring slots part rightly."""
    with_article, slot = strip_article(slot)
    role, name = split_slot(slot)
    if role:
        one_word = name not in ("kind", "home", "food")
    else:
        one_word = not any(" " in word for word in _vocabulary()[slot[1:] if slot[0] == ":" else plot.types[name]])
    word = r"[\w'-]+" if one_word else ".+?"
    return f"(an? {word})" if with_article else f"({word})"


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def _facts(slot: str, value: str, plot: Plot) -> Facts | None:
    """What a filled slot says about the story, or None when the word does not belong there."""
    grammar, vocabulary = load(), _vocabulary()
    with_article, slot = strip_article(slot)
    if with_article:
        bare = value.partition(" ")[2]
        if not bare or article(bare) != value:
            return None
        value = bare
    if slot.startswith(":"):
        return {} if value in vocabulary[slot[1:]] else None
    role, name = split_slot(slot)
    if not role:
        return {name: value} if value in vocabulary[plot.types[name]] else None
    if name == "name":
        return {role: value, f"{role}.gender": grammar.gender[value]} if value in grammar.gender else None
    if name == "kind":
        if value not in grammar.kinds:
            return None
        home, food = grammar.kinds[value]
        return {f"{role}.kind": value, f"{role}.home": home, f"{role}.food": food}
    if name.lower() in PRONOUN_SLOTS:
        column = PRONOUN_SLOTS.index(name.lower())
        for gender, pronouns in PRONOUNS.items():
            if pronouns[column].capitalize() == value.capitalize():
                return {f"{role}.gender": gender}
        return None
    if name == "trait":
        return {f"{role}.trait": value} if value in vocabulary["trait"] else None
    column = ("home", "food").index(name)
    return {f"{role}.{name}": value} if any(row[column] == value for row in grammar.kinds.values()) else None


def _merge(known: Facts, new: Facts) -> Facts | None:
    """Both sets of facts, or None where they disagree. Two roles never share a name."""
    if any(known.get(key, value) != value for key, value in new.items()):
        return None
    merged = known | new
    cast = [merged[role] for role in ROLES if role in merged]
    return merged if len(cast) == len(set(cast)) else None


def _read(form: Form, sentence: str, plot: Plot) -> Facts | None:
    match = form.pattern.fullmatch(sentence)
    if match is None:
        return None
    facts: Facts | None = {}
    for slot, value in zip(form.slots, match.groups()):
        found = _facts(slot, value, plot)
        facts = None if found is None or facts is None else _merge(facts, found)
        if facts is None:
            return None
    return facts


def parse(sentence: str) -> Readings:
    """All readings of one sentence; empty if it is not well formed."""
    plots, readings = load().plots, list[tuple[int, int, Facts]]()
    # A form that begins with a slot is capitalised in a story; both spellings are tried.
    spellings = {sentence, sentence[:1].lower() + sentence[1:]}
    for word in sorted(_words(sentence) | {""}):
        for form in _index().get(word, ()):
            for spelling in spellings:
                for number, beat in form.places:
                    facts = _read(form, spelling, plots[number])
                    if facts is not None:
                        readings.append((number, beat, facts))
    return readings


def sentences(text: str) -> list[str]:
    """The complete sentences of a text: an end mark outside quotation marks, or closing them before a capital."""
    found, start, quoted = [], 0, False
    for i, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        ends = character in ".!?" or (character == '"' and i > 0 and text[i - 1] in ".!?")
        follows = text[i + 1 : i + 3]
        if ends and not quoted and (not follows or re.match(r'\s(["A-Z]|$)|\s\s', follows)):
            found.append(text[start : i + 1].strip())
            start = i + 1
    return [sentence for sentence in found if sentence]


def _follow(plot: int, story: list[Readings]) -> list[Facts]:
    """All sets of facts with which one plot explains every well-formed sentence of a story, in its order."""
    states: list[tuple[int, Facts]] = [(PROMPT, {})]
    for readings in filter(None, story):
        following = []
        for next_beat, known in states:
            for number, beat, facts in readings:
                if number == plot and beat >= next_beat:
                    merged = _merge(known, facts)
                    if merged is not None and (beat + 1, merged) not in following:
                        following.append((beat + 1, merged))
        states = following
    return [facts for _, facts in states]


def _plot(story: list[Readings]) -> int | None:
    """The number of the plot that explains most sentences of a story, as ``Check.plots`` defines it."""
    explained = Counter(number for readings in story for number in {number for number, _, _ in readings})
    (best, most), (_, second) = [*explained.most_common(2), (None, 0), (None, 0)][:2]
    return best if most > second and 2 * most >= len(story) else None


def _hero(plot: int | None, story: list[Readings]) -> tuple[str | None, str | None]:
    """Name and kind of the hero: those that the first sentences about them state in the plot."""
    stated: Facts = {}
    for readings in story:
        for number, _, facts in readings:
            if number == plot:
                stated = facts | stated
    return stated.get("A"), stated.get("A.kind")


def check(text: str) -> Check:
    """How good a text is in the language of Storyland. Several stories are separated by blank lines.

    A sentence without an end mark at the end of a story is not counted: it may have been cut off. A sentence that is
    not well formed does not make its story inconsistent, unless it names somebody who is not in the cast.
    """
    total, bad, consistent, prompted, followed = 0, [], 0, 0, 0
    plots, heroes = [], []
    stories = [story.strip() for story in re.split(r"\n\s*\n", text) if story.strip()]
    for story in stories:
        head, _, body = story.partition("\n")
        parts = sentences(head) + sentences(body)
        readings = [parse(sentence) for sentence in parts]
        wrong = [sentence for sentence, reading in zip(parts, readings) if not reading]
        strays = {w for sentence in wrong for w in re.findall(r"[A-Z][a-z]+", sentence) if w in load().gender}
        total += len(parts)
        bad += wrong
        candidates = {number for number, _, _ in next(filter(None, readings), ())}
        consistent += any(
            strays <= {facts.get(role) for role in ROLES} for plot in candidates for facts in _follow(plot, readings)
        )
        plot = _plot(readings)
        plots.append(None if plot is None else load().plots[plot].name)
        heroes.append(_hero(plot, readings))
        promise = next((facts for _, beat, facts in readings[0] if beat == PROMPT), None) if readings else None
        if promise:
            prompted += 1
            things = [word for key, word in promise.items() if "." not in key]
            followed += all(re.search(rf"\b{re.escape(word)}\b", body) for word in things)
    return Check(
        well_formed=(total - len(bad)) / total if total else 0.0,
        consistent=consistent / len(stories) if total else 0.0,
        sentences=total,
        stories=len(stories),
        prompted=prompted,
        prompt_followed=followed / prompted if prompted else 1.0,
        ill_formed=tuple(bad),
        plots=tuple(plots),
        heroes=tuple(heroes),
    )
