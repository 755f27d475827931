"""Part of the tab "Reconstruct": the passages of a corpus whose chunk vectors are nearest to those of a query."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import gradio as gr

from calm import storyland

from .. import limits
from ..controls import CHECKED, scrolling_table, status_line
from ..registry import loaded
from ..requests import SearchArguments
from ..streaming import Panel, Progress, streamed
from ..validation import validated
from .measuring import split_texts

if TYPE_CHECKING:
    from calm.search import ChunkIndex, Passage

QUERY = "afraid of the dark"
CONTEXT = 40
"""Characters of the document on either side of a passage."""


def find(arguments: SearchArguments) -> tuple[ChunkIndex, list[Passage]]:
    """The index of the corpus, whose documents are separated by blank lines, and the nearest passages. Raises CalmError
    for a corpus without text, an empty query, and a token-by-token model."""
    from calm.search import ChunkIndex, query_vectors

    model, documents = loaded(arguments.model), split_texts(arguments.text)
    encoded = model.encode(arguments.query)
    index = ChunkIndex.of(model.name, documents, [model.encode(document) for document in documents])
    return index, index.nearest(query_vectors(model.lm, arguments.query, encoded), arguments.count)


def table(index: ChunkIndex, passages: Sequence[Passage]) -> str:
    """HTML with a row for each passage, in its context."""
    rows = []
    for passage in passages:
        document = index.texts[passage.document]
        before = document[max(0, passage.start - CONTEXT) : passage.start]
        after = document[passage.end : passage.end + CONTEXT]
        shown = f"{html.escape(before)}<mark>{html.escape(passage.text)}</mark>{html.escape(after)}"
        rows.append((passage.document + 1, shown, f"{passage.distance:.2f}"))
    return scrolling_table("nearest passages", ["document", "passage", "distance"], rows)


@validated(SearchArguments, "text", "query", "model")
def _search(arguments: SearchArguments) -> Iterator[Progress]:
    index, passages = find(arguments)
    status = f"{len(passages)} of {len(index.vectors):,} chunks in {len(index.texts)} documents, by distance"
    yield Progress(f"{html.escape(arguments.model)}: {status}", (table(index, passages),))


def build(model: gr.Dropdown) -> None:
    gr.HTML(
        '<h2 class="calm-heading">Nearest passages</h2><p class="calm-intro">The passages whose chunk vectors are '
        "nearest to those of a query. Chunks start at every K-th token, so a passage is found where its chunks start "
        "like the query's. The autoencoder learns to restore tokens, so the distances compare wording.</p>"
    )
    with gr.Row():
        corpus = gr.Textbox(
            "\n\n".join(storyland.stories("page_examples", limits.EXAMPLE_STORIES)),
            label="Corpus",
            info="Blank lines separate documents.",
            lines=4,
            max_lines=8,
            scale=5,
            elem_id="corpus",
        )
        with gr.Column(scale=4):
            query = gr.Textbox(QUERY, label="Query", lines=1, max_lines=3, elem_id="query")
            go = gr.Button("Search", elem_id="search")
    status, result = gr.HTML(status_line(""), elem_id="search-status"), gr.HTML(elem_id="search-result")
    gr.on(
        [go.click, query.submit],
        streamed(Panel([result], status), _search),
        [corpus, query, model],
        [result, status],
        concurrency_id="measure",
        concurrency_limit=limits.MAX_MEASUREMENTS,
        **CHECKED,
    )
