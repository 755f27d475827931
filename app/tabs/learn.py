"""Tab "Learn": a tour in seven short steps. Each step performs an action on the real page."""

import html

import gradio as gr

from ..components import TourPanel, TourSteps
from ..controls import in_browser
from ..limits import FRESH_SAMPLES, lines
from ..payloads.measurement_types import TourStep

PAPER = "https://arxiv.org/abs/2510.27688"

STEPS: list[TourStep] = [
    {
        "name": "encode",
        "title": "Encode a chunk",
        "tab": "reconstruct",
        "section": "section 2.1",
        "text": "An autoencoder encodes each chunk of K tokens to one latent vector and decodes it again. It reads no "
        "context, only the chunk itself.",
        "action": "Encode a sentence",
        "outcome": "The upper line is the input, the lower line the reconstruction. The bars show the posterior of the "
        "selected chunk: mean and standard deviation of each latent dimension.",
    },
    {
        "name": "add_noise",
        "title": "Add noise",
        "tab": "reconstruct",
        "section": "section 2.2",
        "text": "A language model never predicts a vector exactly, so the autoencoder must tolerate errors. It is "
        "trained for that: the posterior is a distribution, and parts of the tokens and of the vector are dropped in "
        "training.",
        "action": "Add noise of 0.3",
        "outcome": "Almost all tokens are restored. Increase the noise yourself: wrong tokens are underlined, and the "
        "curve below shows at which noise the decoder fails.",
    },
    {
        "name": "draw",
        "title": "Sample vectors",
        "tab": "vectors",
        "section": "sections 3.2 and 3.3",
        "text": "From the hidden state, the energy head samples the next vector: it turns random noise into a sample. "
        "There is no softmax and no probability, only samples.",
        "action": f"Draw {FRESH_SAMPLES} vectors at one step",
        "outcome": "Each ring is one sample of the same step. Where the next chunk is certain, they fall on one chunk; "
        "where it is open, on many. Point at them to read the chunks.",
    },
    {
        "name": "temper",
        "title": "Apply temperature",
        "tab": "generate",
        "section": "section 5",
        "text": "Without probabilities, temperature works on counts: below 1, a chunk that was sampled several times "
        "gains more than its share. Any temperature works here, not only 1/n.",
        "action": "Draw a pool and lower T",
        "outcome": "The outline shows how often each chunk was sampled, the filled bar its probability after "
        "temperature. Move the slider: the samples stay, only their weights change.",
    },
    {
        "name": "compare",
        "title": "Compare steps",
        "tab": "generate",
        "section": "section 3.1",
        "text": "One step generates K tokens, so a text needs K times fewer steps. The paper calls this new axis of "
        "scaling semantic bandwidth.",
        "action": "Generate a story",
        "outcome": "The line above the text counts steps and tokens, and the steps that a token-by-token model needs.",
    },
    {
        "name": "read",
        "title": "Read the map",
        "tab": "vectors",
        "section": "section 2.2",
        "text": "Every step is a point among the chunks of the training stories, placed so that similar vectors are "
        "close together. The text is a path through this space.",
        "action": "Follow the path",
        "outcome": "The map and the text move together. “Encoded path” shows the vectors of the autoencoder for the "
        "same chunks; the prediction error is the distance to them.",
    },
    {
        "name": "race",
        "title": "Race",
        "tab": "race",
        "section": "section 7.2",
        "text": "Is it faster? A token-by-token Transformer with the same backbone continues the same prompt. Each "
        "clock counts the time of its own model.",
        "action": "Start the race",
        "outcome": "Steps, tokens/s and FLOPs per token, measured on this machine. Lower the temperature and race "
        "again: more samples per step cost time.",
    },
]


def build() -> None:
    gr.HTML(
        '<p class="calm-intro">Seven short steps, about five minutes. Each step acts on the page itself, in its own '
        "tab, and brings its own example where it needs one. Leave at any time and continue later. Sections are those "
        f'of <a href="{PAPER}">the paper</a>.</p>'
    )
    TourSteps(STEPS, elem_id="tour")
    limits = "".join(f"<li>{html.escape(line)}</li>" for line in lines())
    gr.HTML(f'<h2 class="calm-heading">Limits</h2><ul class="calm-intro">{limits}</ul>', elem_id="limits")


def build_panel(tabs: gr.Tabs, model: gr.Dropdown) -> None:
    """The panel of the current step, visible in every tab."""
    panel = TourPanel(STEPS, elem_id="tour-panel")
    panel.open_tab(None, None, tabs, js=in_browser('({ __type__: "update", selected: calm.tourTab() })', ""))
    panel.choose_model(None, None, model, js=in_browser("calm.tourModel()", ""))
