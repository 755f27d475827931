"""Components that Gradio does not have, as small ``gr.HTML`` subclasses. Their JavaScript and CSS are in ``assets``.

Each component has a value, one of ``app.payloads.types``, and a mount function of the same name in ``assets/js``, which
draws the value and redraws it when it changes.
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio import component_meta
from gradio.events import EventListener

from .files import IMPORT
from .limits import FRESH_SAMPLES
from .payloads.run_lines import run_lines

# Gradio would write a type stub beside this file for each class, and read all earlier stubs twice. At every start that
# takes three seconds.
component_meta.create_or_modify_pyi = lambda component_class, class_name, events: None


class _Component(gr.HTML):
    """An element whose value is data."""

    template = ""

    def __init__(self, value: Any = None, **props: Any):
        mount = f"mount{type(self).__name__}"
        parts = "{ element, props, watch, server, trigger }"
        super().__init__(
            value=value,
            html_template=self.template,
            js_on_load=f"{IMPORT}.then((calm) => calm.{mount}({parts}));",
            **props,
        )

    def postprocess(self, value: Any) -> Any:
        return value

    def preprocess(self, payload: Any) -> Any:
        return payload

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


class _RunView(_Component):
    """A component whose value is a ``RunPayload``. It reaches the page as text (``app.payloads.run_lines``)."""

    def postprocess(self, value: Any) -> Any:
        return value and run_lines(value)

    def api_info(self) -> dict[str, Any]:
        return {"type": "string"}


class RunText(_RunView):
    """The text of a run as chunks, the candidates of the selected step, and the last steps on the map. Value:
    ``RunPayload``.

    Server functions: ``draw_pool``, ``place_chunks``. Events: ``branch`` (``BranchRequest``) when the visitor chooses
    another candidate, ``suggestion`` (``prompt``) when the visitor tries a suggested prompt, ``repeat``
    (``RepeatRequest``) when a link to a run opened the page, ``show_run`` when the visitor goes back to another run.
    """

    template = """
<div class="calm-run">
<div class="calm-main">
<div class="calm-counter" hidden></div>
<div class="calm-certainty"></div>
<div class="calm-suggestions" role="status"></div>
<p class="calm-text" aria-live="polite" aria-label="generated text"></p>
<p class="calm-ghost" hidden></p>
<div class="calm-actions" hidden></div>
<div class="calm-samples" role="group" aria-label="samples of this prompt" hidden></div>
<nav class="calm-tree" aria-label="branches of this text" hidden></nav>
<details class="calm-run-steps"><summary>Steps of this run</summary></details>
</div>
<div class="calm-side">
<div class="calm-sheet">
<section class="calm-detail" aria-label="candidates of the selected chunk"></section>
</div>
<div class="calm-path"></div>
</div>
</div>
"""
    EVENTS: list[Any] = [*gr.HTML.EVENTS, *map(EventListener, ("branch", "suggestion", "repeat", "show_run"))]


class VectorMapPlot(_RunView):
    """The map with the path of a run over it. Value: ``RunPayload``.

    Server functions: ``draw_cloud``, ``place_chunks``, ``find_nearest``. Event: ``choose_model`` (``model``) when the
    visitor asks for a model that has a map; ``make_map`` (``MapRequest``) when the map of a CALM without one is seen.

    The page fetches the files of the map itself (``Config.map_urls``): a custom prop of a component in a tab that was
    never opened does not survive an update of its value.
    """

    template = f"""
<div class="calm-tools" role="group" aria-label="what the map shows">
  <span>
    <button type="button" data-dimensions="2" aria-pressed="true">2-D</button
    ><button type="button" data-dimensions="3" aria-pressed="false">3-D</button>
  </span>
  <label>Layout <select class="calm-select" data-layout>
    <option value="umap">UMAP</option><option value="principal">PCA</option>
    <option value="own" disabled>own fit</option></select></label>
  <label>Colour by <select class="calm-select" data-colour>
    <option value="">one colour</option><option value="step">step</option>
    <option value="distance">prediction error</option>
    <option value="frequency">chunk frequency</option></select></label>
  <label><input type="checkbox" data-whole> whole path</label>
  <label><input type="checkbox" data-encoded> encoded path</label>
  <label><input type="checkbox" data-chunks> training chunks</label>
  <label><input type="checkbox" data-others> earlier runs</label>
  <button type="button" class="calm-small" data-cloud>Draw {FRESH_SAMPLES} samples</button>
</div>
<div class="calm-tools" role="group" aria-label="step through the path">
  <button type="button" class="calm-small" data-play>▶ Play</button>
  <input type="range" class="calm-range" min="1" value="1" step="1" aria-label="step of the run" data-step>
  <span class="calm-note" data-status role="status"></span>
</div>
<div class="calm-tools" role="search" aria-label="search the map">
  <label>Find a chunk <input type="search" class="calm-search" placeholder="its text or a part" data-search></label>
  <div class="calm-found" data-found hidden></div>
</div>
<div class="calm-no-map" data-no-map hidden>
  <p></p><button type="button" class="calm-small"></button>
</div>
<div data-map></div>
<section class="calm-nearest" aria-live="polite" data-near hidden></section>
<div class="calm-strip"><p class="calm-text" aria-label="text of the run"></p></div>
<div class="calm-actions">
  <button type="button" class="calm-small" data-export="png">Export PNG</button>
  <button type="button" class="calm-small" data-export="html">Export HTML</button>
  <button type="button" class="calm-small" data-export="csv">Export CSV</button>
</div>
"""
    EVENTS: list[Any] = [*gr.HTML.EVENTS, EventListener("choose_model"), EventListener("make_map")]


class MapResult(_Component):
    """Passes the new map of a model to the page. It has no visible part. Value: ``ModelMap``."""

    template = '<span class="calm-fit" hidden></span>'


class FitResult(_Component):
    """Passes a fitted map to the map plot. It has no visible part. Value: ``FittedMap``."""

    template = '<span class="calm-fit" hidden></span>'


class ReconstructionView(_Component):
    """Chunks above their reconstructions, and the posterior of the selected one. Value: ``ReconstructionPayload``.

    Server function: ``walk``.
    """

    template = """
<div class="calm-pairs" aria-label="each chunk above its reconstruction"></div>
<section class="calm-detail">
  <h2></h2>
  <div class="calm-plot posterior" role="figure" aria-label="posterior mean and standard deviation"></div>
  <div class="calm-walk"></div>
</section>
"""


class CurveView(_Component):
    """Share of tokens restored over noise. Value: ``CurvePayload``."""

    template = '<div class="calm-plot curve" role="figure" aria-label="share of tokens restored over noise"></div>'


class BrierCurveView(_Component):
    """BrierLM of models over temperature. Value: ``BrierCurvePayload``."""

    template = '<div class="calm-plot curve" role="figure" aria-label="BrierLM over temperature" hidden></div>'


class RaceView(_Component):
    """Two texts as they grow, with the figures of each, and tokens over time. Value: ``RacePayload``."""

    template = """
<div class="calm-counter" hidden></div>
<div class="calm-race"></div>
<div class="calm-plot race" role="figure" aria-label="tokens generated over seconds"></div>
"""


class ScoresPlot(_Component):
    """BrierLM over FLOPs per token. Value: ``ScoresPayload``."""

    template = '<div class="calm-plot scores" role="figure" aria-label="BrierLM over FLOPs per token"></div>'


class HeadsPlot(_Component):
    """BrierLM of each generative head over the evaluations of a draw. Value: ``HeadsPayload``."""

    template = '<div class="calm-plot curve" role="figure" aria-label="BrierLM over evaluations in a draw"></div>'


class HeadDrawsPlot(_Component):
    """The draws of each generative head at a position that the visitor chooses. Value: ``HeadsPayload``."""

    template = """
<div class="calm-tools" role="group" aria-label="position in a story">
  <label>Position <select class="calm-select" data-place></select></label>
</div>
<div class="calm-plot draws" role="figure" aria-label="draws of each head in two principal components"></div>
"""


class RunCard(_Component):
    """The settings of the result above it, whether the inputs have changed since, and its exports. Value:
    ``RunCardPayload``. ``buttons`` are the ids of the buttons that start such runs."""

    def __init__(self, value: Any = None, *, buttons: Sequence[str], **props: Any):
        self.template = f'<div class="calm-card" data-buttons="{" ".join(buttons)}"></div>'
        super().__init__(value, **props)


class TourSteps(_Component):
    """The steps of the guided tour as a list. Value: a list of ``TourStep``."""

    template = """
<p><button type="button" class="calm-small calm-strong" data-start></button></p>
<ol class="calm-steps"></ol>
"""

    def api_info(self) -> dict[str, Any]:
        return {"type": "array"}


class TourPanel(TourSteps):
    """The current step of the tour, docked beside the page. Value: the same as that of ``TourSteps``.

    Events: ``open_tab`` (``tab``), and ``choose_model`` where a step needs a CALM.
    """

    template = "<span hidden></span>"
    EVENTS: list[Any] = [*gr.HTML.EVENTS, EventListener("open_tab"), EventListener("choose_model")]
