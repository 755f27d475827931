"""Tab "Vector space": the path of the predicted vectors over the map of training chunks."""

import gradio as gr

from .components import VectorMapPlot


def build(plot: VectorMapPlot) -> None:
    gr.HTML(
        '<p class="calm-intro">Each grey point is one of the commonest chunks of the training stories, placed by UMAP '
        "so that chunks with near vectors lie near each other. The line is the last run of the Generate tab: the "
        "vectors that the model predicted, in order; the prompt's own chunks are dotted.</p>"
    )
    plot.render()
