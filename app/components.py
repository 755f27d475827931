"""Parts that Gradio lacks, as small ``gr.HTML`` subclasses; their JavaScript and CSS are the files in ``assets``."""

from pathlib import Path
from typing import Any

import gradio as gr
import plotly

ASSETS = Path(__file__).parent.parent / "assets"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
SCRIPTS = [ASSETS / "js" / name for name in ("core.js", "run.js", "plots.js", "race.js")]


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
    """The text of a run as chunks, and the pool of the selected one. Value: ``render.Run.value``.

    Its server function ``open_pool`` draws a full pool at a step; its event ``submit`` tells that the visitor leaves
    the run at a step, with another candidate (``render.Run.leave``).
    """

    template = """
<p class="calm-text" aria-live="polite" aria-label="generated text"></p>
<nav class="calm-tree" aria-label="branches of this text" hidden></nav>
<section class="calm-detail" aria-label="the pool of the selected chunk"></section>
"""
    mount = "mountRun"


class VectorMapPlot(_Component):
    """The map with the path of a run over it. Value: ``render.Run.value``; ``base``: the map's file.

    The page fetches the map's file itself: a custom prop of a component in a tab that was never opened does not survive
    an update of its value.
    """

    template = """
<div class="calm-tools" role="group" aria-label="dimensions of the map">
  <span>
    <button type="button" data-dimensions="2" aria-pressed="true">2-D</button
    ><button type="button" data-dimensions="3" aria-pressed="false">3-D</button>
  </span>
  <span class="calm-note">Scroll to zoom, drag to move. Point at a step, on the map or in the text.</span>
</div>
<div class="calm-plot map" data-base="BASE" role="img"
  aria-label="map of chunk vectors with the path of the run"></div>
<div class="calm-strip"><p class="calm-text" aria-label="text of the run"></p></div>
"""
    mount = "mountMap"
    needs = ("CALM.select", "Plotly.react")
    scripts = PLOT_HEAD

    def __init__(self, base: Path, value: Any = None, **props: Any):
        self.template = self.template.replace("BASE", _url(base))
        super().__init__(value, **props)


class ReconstructionView(_Component):
    """Chunks above their reconstructions, and the posterior of the selected one. Value: ``render.reconstruction``."""

    template = """
<div class="calm-pairs" aria-label="each chunk above its reconstruction"></div>
<section class="calm-detail">
  <h3></h3>
  <div class="calm-plot posterior" role="img" aria-label="posterior mean and standard deviation"></div>
</section>
"""
    mount = "mountReconstruction"
    needs = ("CALM.select", "Plotly.react")
    scripts = PLOT_HEAD


class RaceView(_Component):
    """Two texts as they grow, with the figures of each, and tokens over time. Value: ``Race.value``."""

    template = """
<div class="calm-race"></div>
<div class="calm-plot race" role="img" aria-label="tokens written over seconds"></div>
"""
    mount = "mountRace"
    needs = ("CALM.select", "Plotly.react")
    scripts = PLOT_HEAD
