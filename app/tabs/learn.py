"""Tab "Learn": a tour in seven short steps, each of which acts on the real page."""

from dataclasses import asdict, dataclass

import gradio as gr

from ..components import TourPanel, TourSteps

PAPER = "https://arxiv.org/abs/2510.27688"


@dataclass(frozen=True)
class TourStep:
    """One step; ``name`` is that of its action in ``learn.js``."""

    name: str
    title: str
    tab: str
    section: str
    """Of the paper."""
    text: str
    action: str
    """What the button says that does it."""
    look: str
    """What is to be seen then."""


STEPS = [
    TourStep(
        "encode", "Encode a chunk", "reconstruct", "section 2.1",
        "An autoencoder turns each chunk of K tokens into one vector and back. It reads no context: a chunk is all "
        "it sees.",
        "Encode a sentence",
        "Above is what went in, below what came back. The bars are the vector of the marked chunk: a mean and a "
        "standard deviation for each of its numbers.",
    ),
    TourStep(
        "disturb", "Disturb it", "reconstruct", "section 2.2",
        "A language model never hits a vector exactly, so the code has to forgive. It is trained to: the posterior "
        "is a cloud, and parts of tokens and vectors are dropped in training.",
        "Add noise of 0.3",
        "Nearly nothing is lost. Now drag the noise up yourself: wrong tokens are underlined, and the curve further "
        "down tells where the code breaks.",
    ),
    TourStep(
        "draw", "Draw vectors", "vectors", "sections 3.2 and 3.3",
        "From its hidden state the model draws the next vector: the energy head turns noise into a sample. There is "
        "no softmax and no probability to read off, only samples.",
        "Draw 200 vectors at one step",
        "Each ring is one draw of the same step. Where the text is clear they fall on one chunk, where it is open "
        "on many: point at them.",
    ),
    TourStep(
        "temper", "Temper them", "generate", "section 5",
        "Without probabilities, temperature has to be made from counting: below 1, chunks that were drawn more than "
        "once win by more than their share. Here any temperature works, not only 1/n.",
        "Draw a pool and lower T",
        "Outlined: how often each chunk was drawn. Filled: its share after temperature. Move the slider; the pool "
        "stays, only its weights change.",
    ),
    TourStep(
        "compare", "Compare steps", "generate", "section 3.1",
        "One step writes K tokens, so a text needs K times fewer steps. This is the paper's new axis of scaling: "
        "semantic bandwidth.",
        "Write a story",
        "The line above the text counts: steps taken, tokens written, and what a token-by-token model would have "
        "needed.",
    ),
    TourStep(
        "read", "Read the map", "vectors", "section 2.2",
        "Every step is a point among the chunks of the training stories, laid out so that near vectors lie near. "
        "The text is a walk through this space.",
        "Walk the path",
        "The map and the text move together. “Encoded path” shows where the autoencoder would have gone, and the "
        "distance says how well the model aimed.",
    ),
    TourStep(
        "race", "Race", "race", "section 7.2",
        "Does it pay? The same prompt goes to a token-by-token Transformer with the same backbone; each clock counts "
        "its own model's time alone.",
        "Start the race",
        "Steps, tokens a second and operations a token, as measured just now on this machine. Lower the temperature "
        "and race again: draws cost time.",
    ),
]  # fmt: skip


def build() -> None:
    gr.HTML(
        '<p class="calm-intro">Seven short steps, about five minutes. Each acts on the page itself, in the tab it '
        "belongs to, on a sentence of its own where it needs one; leave at any time, and go on where you were. "
        f'Sections are those of <a href="{PAPER}">the paper</a>.</p>'
    )
    TourSteps([asdict(step) for step in STEPS], elem_id="tour")


def panel(tabs: gr.Tabs) -> None:
    """The panel of the step that is being taken, in view whichever of the tabs is open."""
    panel = TourPanel([asdict(step) for step in STEPS], elem_id="tour-panel")
    panel.select(None, None, tabs, js='() => ({ __type__: "update", selected: CALM.tour.tab })')
