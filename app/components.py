"""Parts that Gradio lacks, as small ``gr.HTML`` subclasses; their JavaScript and CSS are the files in ``assets``."""

import html
import json
from pathlib import Path
from typing import Any

import gradio as gr
import plotly

ASSETS = Path(__file__).parent.parent / "assets"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
NAMES = "core page run plots latent map race evaluate learn".split()  # in the order in which they need one another
SCRIPTS = [ASSETS / "js" / f"{name}.js" for name in NAMES]


def asset(name: str) -> Any:
    """What a JSON file of the assets holds; most are made by ``python -m app.build``."""
    return json.loads((ASSETS / f"{name}.json").read_text(encoding="utf-8"))


def _url(path: Path) -> str:
    return f"/gradio_api/file={path.as_posix()}"


def _script(path: Path) -> str:
    return f'<script src="{_url(path)}"></script>'


def serve_files() -> None:
    """Lets the page fetch its own scripts and Plotly's, which ships inside its Python package."""
    gr.set_static_paths([str(ASSETS), str(PLOTLY)])


HEAD = "".join(_script(path) for path in SCRIPTS)
PLOT_HEAD = HEAD + _script(PLOTLY)


class _Component(gr.HTML):
    """An element whose value is data; the script named ``mount`` draws it and redraws when the value changes."""

    template = ""
    mount = ""
    needs: tuple[str, ...] = ("CALM.select",)
    scripts = HEAD

    def __init__(self, value: Any = None, **props: Any):
        names = [*self.needs, f"CALM.{self.mount}"]
        super().__init__(
            value=value,
            html_template=self.template,
            js_on_load=f"""
const mount = () => CALM.whenReady({names!r}, () => CALM.{self.mount}(element, props, watch, server, trigger));
const wait = () => (window.CALM && CALM.whenReady ? mount() : setTimeout(wait, 40));
wait();
""",
            head=self.scripts,
            **props,
        )

    def postprocess(self, value: Any) -> Any:
        return value

    def preprocess(self, payload: Any) -> Any:
        return payload

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


class RunText(_Component):
    """The text of a run as chunks, and the pool of the selected one. Value: ``Run.value``.

    Its server function ``open_pool`` draws a full pool at a step; its event ``submit`` tells that the visitor leaves
    the run at a step, with another candidate (``Run.leave``).
    """

    template = """
<p class="calm-text" aria-live="polite" aria-label="generated text"></p>
<div class="calm-actions" hidden></div>
<div class="calm-samples" role="group" aria-label="samples of this prompt" hidden></div>
<nav class="calm-tree" aria-label="branches of this text" hidden></nav>
<section class="calm-detail" aria-label="the pool of the selected chunk"></section>
"""
    mount = "mountRun"


class VectorMapPlot(_Component):
    """The map with the path of a run over it. Value: ``Run.value``; ``maps``: the maps' files by model.

    The page fetches the file of a run's model itself: a custom prop of a component in a tab that was never opened does
    not survive an update of its value.
    """

    template = """
<div class="calm-tools" role="group" aria-label="what the map shows">
  <span>
    <button type="button" data-dimensions="2" aria-pressed="true">2-D</button
    ><button type="button" data-dimensions="3" aria-pressed="false">3-D</button>
  </span>
  <label>Layout <select class="calm-select" data-layout>
    <option value="umap">UMAP</option><option value="principal">PCA</option>
    <option value="own" disabled>own fit</option></select></label>
  <label>Colour by <select class="calm-select" data-colour>
    <option value="">one colour</option><option value="time">time</option>
    <option value="distance">distance to the encoded vector</option>
    <option value="frequency">chunk frequency</option></select></label>
  <label><input type="checkbox" data-encoded> encoded path</label>
  <label><input type="checkbox" data-others> earlier runs</label>
  <button type="button" class="calm-small" data-cloud>Draw 200 here</button>
</div>
<div class="calm-tools" role="group" aria-label="walk along the path">
  <button type="button" class="calm-small" data-play>▶ Play</button>
  <input type="range" class="calm-range" min="1" value="1" step="1" aria-label="step of the run" data-step>
  <span class="calm-note" data-told role="status"></span>
</div>
<div class="calm-plot map" data-maps="MAPS" role="figure"
  aria-label="map of chunk vectors with the path of the run"></div>
<div class="calm-strip"><p class="calm-text" aria-label="text of the run"></p></div>
<div class="calm-actions">
  <button type="button" class="calm-small" data-export="png">Export PNG</button>
  <button type="button" class="calm-small" data-export="html">Export HTML</button>
  <button type="button" class="calm-small" data-export="csv">Export CSV</button>
</div>
"""
    mount = "mountMap"
    needs = ("CALM.select", "Plotly.react")
    scripts = PLOT_HEAD

    def __init__(self, maps: dict[str, Path], value: Any = None, **props: Any):
        told = json.dumps({name: _url(path) for name, path in maps.items()})
        self.template = self.template.replace("MAPS", html.escape(told))
        super().__init__(value, **props)


class FitResult(_Component):
    """Hands a fitted map to the map's plot; shows nothing itself. Value: ``render.fitted``."""

    template = '<span class="calm-fit" hidden></span>'
    mount = "mountFit"
    needs = ("CALM.mountFit",)


class ReconstructionView(_Component):
    """Chunks above their reconstructions, and the posterior of the selected one. Value: ``render.reconstruction``."""

    template = """
<div class="calm-pairs" aria-label="each chunk above its reconstruction"></div>
<section class="calm-detail">
  <h2></h2>
  <div class="calm-plot posterior" role="figure" aria-label="posterior mean and standard deviation"></div>
  <div class="calm-walk"></div>
</section>
"""
    mount = "mountReconstruction"
    needs = ("CALM.select", "Plotly.react")
    scripts = PLOT_HEAD


class CurveView(_Component):
    """Restored tokens over noise. Value: ``reference`` and ``text``, each a list of (noise, share)."""

    template = '<div class="calm-plot curve" role="figure" aria-label="share of tokens restored over noise"></div>'
    mount = "mountCurve"
    needs = ("CALM.select", "Plotly.react")
    scripts = PLOT_HEAD


class RaceView(_Component):
    """Two texts as they grow, with the figures of each, and tokens over time. Value: ``Race.value``."""

    template = """
<div class="calm-race"></div>
<div class="calm-plot race" role="figure" aria-label="tokens written over seconds"></div>
"""
    mount = "mountRace"
    needs = ("CALM.select", "Plotly.react")
    scripts = PLOT_HEAD


class ScoresPlot(_Component):
    """BrierLM over operations a token. Value: ``evaluate_tab.costs`` as models, and the score of the language."""

    template = """
<div class="calm-plot scores" role="figure" aria-label="BrierLM over floating-point operations a token"></div>
"""
    mount = "mountScores"
    needs = ("CALM.select", "Plotly.react")
    scripts = PLOT_HEAD


class TourSteps(_Component):
    """The steps of the guided tour as a list. Value: a list of ``TourStep`` as dictionaries."""

    template = """
<p><button type="button" class="calm-small calm-strong" data-start></button></p>
<ol class="calm-steps"></ol>
"""
    mount = "mountTourSteps"
    needs = ("CALM.tour",)

    def api_info(self) -> dict[str, Any]:
        return {"type": "array"}


class TourPanel(TourSteps):
    """The step that is being taken. Its event ``select`` asks for the tab that ``CALM.tour.tab`` names."""

    template = "<span hidden></span>"
    mount = "mountTourPanel"
    needs = ("CALM.select",)
