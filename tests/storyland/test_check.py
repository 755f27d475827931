import math
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from calm import CalmError, storyland
from calm.storyland.check import sentences
from calm.storyland.grammar import HAND, PRONOUNS, SLOT, load, split_slot, strip_article


def held_out(count: int) -> list[str]:
    return list(storyland.stories("validation", count))


def prompted(count: int) -> list[str]:
    return [story for story in held_out(4 * count) if "\n" in story][:count]


def body_sentences(story: str) -> list[str]:
    return sentences(story.partition("\n")[2] or story)


def test_the_grammar_is_as_large_as_promised():
    grammar = load()
    assert len(grammar.plots) >= 60
    assert grammar.form_count >= 980
    words = {word for entries in grammar.words.values() for word in entries}
    words |= {word for row in grammar.kinds.values() for word in row}
    assert len(words) >= 650


def test_choices_are_few_and_words_many():
    """Lists have 12 to 30 words, of which a place has at most five; beats have one to six forms."""
    grammar = load()
    small = {"daypart", "time", "weather", "number", "place"}
    for name, words in grammar.words.items():
        assert len(words) == len(set(words)), name
        assert name in small or 12 <= len(words) <= 30, name
        hands = [grammar.hand(name, place) for place in grammar.places]
        assert all(1 < len(hand) <= HAND for hand in hands) and {word for hand in hands for word in hand} == {*words}
    assert len(grammar.words["name.he"]) == len(grammar.words["name.she"])
    for plot in grammar.plots:
        for beat in plot.beats:
            assert 1 <= len(beat.forms) <= 6, plot.name


def test_every_prompt_can_be_followed():
    """The things of a prompt stand in every story of its plot: in all forms of some beat."""
    for plot in load().plots:
        for form in plot.prompts:
            for slot in (strip_article(found)[1] for found in SLOT.findall(form)):
                if not split_slot(slot)[0]:
                    pattern = rf"\$(a\.)?{slot}\b"
                    named = [all(re.search(pattern, form) for form in beat.forms) for beat in plot.beats]
                    assert any(named), (plot.name, slot)


def test_every_word_occurs():
    """The hands that stories have hold all words of all lists."""
    grammar, used = load(), defaultdict(set)
    for place, kind in ((place, kind) for place, kinds in grammar.places.items() for kind in kinds):
        for plot in (grammar.plots[number] for number in grammar.plot_hand(kind)):
            forms = [form for beat in plot.beats for form in beat.forms]
            for role, name in {split_slot(strip_article(slot)[1]) for form in forms for slot in SLOT.findall(form)}:
                if not role:
                    word_type = name[1:] if name[0] == ":" else plot.types[name]
                    used[word_type].update(grammar.hand(word_type, place))
                elif name == "name":
                    for gender in PRONOUNS:
                        used[f"name.{gender}"].update(grammar.names(gender, place, role))
                elif name == "trait":
                    used[name].update(grammar.hand(name, place))
    assert used == {word_type: set(words) for word_type, words in grammar.words.items()}


def test_stories_are_deterministic_across_processes():
    code = "from calm import storyland; print(storyland.story(12345))"
    told = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)}
    assert told == {storyland.story(12345) + "\n"}
    assert list(storyland.corpus(3, 7)) == [storyland.story(seed) for seed in (7, 8, 9)]


def test_plots_kinds_and_names_are_uniform():
    stories = list(storyland.corpus(3000, 0))
    found = storyland.check("\n\n".join(stories))
    kinds = Counter(kind for _, kind in found.heroes)
    names = Counter(name for name, _ in found.heroes)
    for drawn, options in (
        (Counter(found.plots), [plot.name for plot in load().plots]),
        (kinds, load().kinds),
        (names, load().gender),
    ):
        assert drawn.keys() == set(options)
        expected = len(stories) / len(drawn)
        chi2 = sum((count - expected) ** 2 / expected for count in drawn.values())
        degrees = len(drawn) - 1
        assert chi2 < degrees + 5 * (2 * degrees) ** 0.5


def test_the_primer_tells_true_stories_of_few_plots():
    stories = list(storyland.primer(300, 0))
    found = storyland.check("\n\n".join(stories))
    assert (found.well_formed, found.consistent, found.stories) == (1.0, 1.0, 300)
    distinct = {re.sub(r"[A-Z]\w+", "", sentence) for story in stories for sentence in body_sentences(story)}
    usual = {re.sub(r"[A-Z]\w+", "", s) for story in storyland.corpus(300, 0) for s in body_sentences(story)}
    assert len(distinct) < 0.6 * len(usual)


def test_prompted_stories_are_true_stories_with_prompts():
    stories = list(storyland.prompted_stories(300, 0))
    assert all("\n" in story for story in stories)
    found = storyland.check("\n\n".join(stories))
    assert (found.well_formed, found.consistent, found.prompt_followed, found.stories) == (1.0, 1.0, 1.0, 300)


def test_stories_have_8_to_14_sentences():
    lengths = [len(body_sentences(story)) for story in storyland.corpus(2000, 50)]
    assert min(lengths) >= 8 and max(lengths) <= 14


def test_documents_hardly_ever_repeat():
    stories = list(storyland.corpus(30_000, 0))
    assert len(stories) - len(set(stories)) < 3


def test_half_of_the_documents_have_a_story_prompt():
    assert 0.47 < sum("\n" in story for story in storyland.corpus(4000, 0)) / 4000 < 0.53


def test_held_out_stories_score_one():
    found = storyland.check("\n\n".join(held_out(1500)))
    assert found.well_formed == 1.0, found.ill_formed[:3]
    assert found.consistent == 1.0
    assert found.stories == 1500
    assert 650 < found.prompted < 850
    assert found.prompt_followed == 1.0


def test_a_replaced_word_is_found():
    rng = random.Random(0)
    caught = 0
    for story in held_out(200):
        words = story.split(" ")
        place = rng.randrange(len(words))
        bare = words[place].strip('.,!?"')
        words[place] = words[place].replace(bare, "sideways") if bare else "sideways"
        found = storyland.check(" ".join(words))
        caught += found.well_formed < 1 or found.consistent < 1
    assert caught == 200


def test_swapped_names_are_found():
    """Hero and friend change places in one sentence of each story."""
    caught = tried = 0
    for story in held_out(300):
        told = body_sentences(story)
        names = [n for n in dict.fromkeys(re.findall(r"[A-Z][a-z]+", story)) if n in load().gender][:2]
        both = [i for i, sentence in enumerate(told) if i > 3 and all(name in sentence for name in names)]
        if len(names) < 2 or not both:
            continue
        tried += 1
        first, second = names
        told[both[0]] = told[both[0]].replace(first, "\0").replace(second, first).replace("\0", second)
        found = storyland.check(" ".join(told))
        caught += found.consistent < 1 or found.well_formed < 1
    assert tried > 100
    assert caught / tried > 0.95


def test_a_changed_pronoun_is_found():
    caught = tried = 0
    other = {"he": "she", "she": "he", "his": "her", "He": "She", "She": "He"}
    for story in held_out(300):
        told = body_sentences(story)
        for i in range(1, len(told)):
            match = re.search(r"\b(he|she|his|He|She)\b", told[i])
            if match and '"' not in told[i] and any(n in " ".join(told[:i]) for n in load().gender):
                told[i] = told[i][: match.start()] + other[match[0]] + told[i][match.end() :]
                found = storyland.check(" ".join(told))
                tried += 1
                caught += found.consistent < 1 or found.well_formed < 1
                break
    assert tried > 200
    assert caught / tried > 0.97


def test_exchanged_sentences_are_found():
    stories = held_out(300)
    caught = 0
    rng = random.Random(3)
    for one, two in zip(stories[::2], stories[1::2]):
        a, b = body_sentences(one), body_sentences(two)
        i, j = rng.randrange(len(a)), rng.randrange(len(b))
        a[i], b[j] = b[j], a[i]
        caught += storyland.check(" ".join(a) + "\n\n" + " ".join(b)).consistent < 1
    assert caught >= 147


def test_a_broken_prompt_is_found():
    for story in prompted(40):
        head, _, body = story.partition("\n")
        hero = next(word for word in re.findall(r"[A-Z][a-z]+", head) if word in load().gender)
        stranger = next(name for name in load().words["name.he"] if name not in story)
        found = storyland.check(head.replace(hero, stranger) + "\n" + body)
        assert found.consistent < 1 or found.well_formed < 1
        assert found.prompted == 0 or found.prompt_followed < 1


def test_other_text_scores_low():
    found = storyland.check("It was the best of times. Call me Ishmael. The rain in Spain stays mainly in the plain.")
    assert (found.well_formed, found.consistent, found.sentences) == (0.0, 0.0, 3)
    empty = storyland.check("")
    assert (empty.well_formed, empty.consistent, empty.sentences, empty.stories) == (0.0, 0.0, 0, 0)


def test_the_check_names_plots_and_heroes():
    stories = [story for story in held_out(200)]
    found = storyland.check("\n\n".join(stories))
    assert len(found.plots) == len(found.heroes) == 200
    names = {plot.name for plot in load().plots}
    assert sum(plot in names for plot in found.plots) >= 198  # shared sentences alone may leave two plots open
    for story, (name, kind) in zip(stories, found.heroes):
        assert name is None or (name in story and name in load().gender)
        assert kind is None or (kind in story and kind in load().kinds)
    other = storyland.check("It was the best of times.\n\n" + stories[0])
    assert other.plots == (None, found.plots[0])
    assert other.heroes == ((None, None), found.heroes[0])


def test_prompts_are_drawn_evenly_and_stand_before_their_stories():
    prompts = [storyland.prompt(seed) for seed in range(3000)]
    assert prompts[:3] == [storyland.prompt(seed) for seed in range(3)]
    assert all(prompt.endswith("\n") and prompt.count("\n") == 1 for prompt in prompts)
    found = storyland.check("\n\n".join(prompts))
    assert found.well_formed == found.consistent == 1.0 and found.prompted == 3000
    titles = Counter(plot for prompt in prompts for plot in storyland.check(prompt).plots if plot)
    assert len(titles) >= 0.9 * len(load().plots)
    expected = len(prompts) / len(load().plots)
    assert all(expected - 5 * expected**0.5 < count < expected + 5 * expected**0.5 for count in titles.values())
    heroes = len(load().gender) * len(load().kinds) / len(load().places)  # each place has its own names
    assert len(set(found.heroes)) > 0.95 * heroes * (1 - math.exp(-len(prompts) / heroes))


def test_splits_are_named_ranges_without_overlap():
    ranges = sorted(storyland.SPLITS.values(), key=lambda seeds: seeds.start)
    assert all(one.stop <= two.start for one, two in pairwise(ranges))
    assert all(seeds.start >= 10_000_000 for name, seeds in storyland.SPLITS.items() if name != "train")
    first = storyland.SPLITS["validation"].start
    assert list(storyland.stories("validation", 2, skip=3)) == [storyland.story(first + 3), storyland.story(first + 4)]
    with pytest.raises(CalmError, match="splits are train, validation"):
        storyland.stories("test", 1)
    with pytest.raises(CalmError, match="too few"):
        storyland.stories("validation", 500_001)


def test_an_unfinished_sentence_is_not_counted():
    story = held_out(1)[0]
    cut = story[: story.rindex(".", 0, len(story) - 1) + 6]
    found = storyland.check(cut)
    assert found.well_formed == 1.0 and found.consistent == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Oh no! Where is it?" cried Mia. She ran.', ['"Oh no! Where is it?" cried Mia.', "She ran."]),
        ('Mia said, "Come." Tom came.', ['Mia said, "Come."', "Tom came."]),
        ("No end", []),
    ],
)
def test_sentences_are_split_with_quotation_marks_in_mind(text, expected):
    assert sentences(text) == expected


def test_the_vocabulary_covers_every_story_and_little_else():
    for seed in range(300):
        assert storyland.vocabulary_share(storyland.prompt(seed) + storyland.story(seed)) == 1
    assert storyland.vocabulary_share("ONCE upon a TIME, 3 times! ") == 1
    assert storyland.vocabulary_share("What is the capital of France?") == pytest.approx(4 / 6)
    assert storyland.vocabulary_share("日本語") == storyland.vocabulary_share("Élan") == 0
    assert storyland.vocabulary_share("") == storyland.vocabulary_share("12, 34! 🎉") == 1
