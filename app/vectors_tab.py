"""Tab "Vector space": the path of the predicted vectors over the map of training chunks."""

import gradio as gr

from .components import VectorMapPlot
from .models import Resident


def build(resident: Resident, plot: VectorMapPlot) -> None:
    gr.HTML(
        f'<p class="calm-intro">Each grey point is a chunk of the training stories, placed by UMAP so that chunks with '
        f"near vectors lie near each other. The line is the last run of the Generate tab: the vectors that the model "
        f"predicted, in order, with {len(resident.map.texts):,} training chunks behind it; the prompt's own chunks are "
        "dotted.</p>"
    )
    plot.render()
