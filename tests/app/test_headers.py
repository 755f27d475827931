"""Headers that limit what a browser lets the page do, and routes of Gradio that are switched off."""

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from gradio.routes import App
from starlette.middleware import Middleware

from app import headers
from app.page import launch_options


@pytest.fixture(scope="module")
def client():
    with gr.Blocks() as page:
        gr.HTML("content")
    page.queue()
    page.run_history, page.enable_monitoring = False, False
    with TestClient(App.create_app(page, app_kwargs={"middleware": [Middleware(headers.SecurityHeaders)]})) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/robots.txt", "/config", "/gradio_api/info", "/nowhere", "/monitoring"])
def test_every_answer_has_the_headers(client, path):
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "object-src 'none'" in policy
    assert "frame-ancestors 'self' https://huggingface.co" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "microphone=()" in answer.headers["permissions-policy"]
    assert "x-frame-options" not in answer.headers  # it would forbid the frame of a Space


def test_another_site_may_be_allowed_to_frame_the_page(monkeypatch):
    monkeypatch.setenv("CALM_FRAME_ANCESTORS", "https://example.org")
    policy = dict(headers.security_headers())[b"content-security-policy"]
    assert policy.endswith(b"frame-ancestors https://example.org")


@pytest.mark.parametrize(
    "path",
    [
        "/monitoring", "/monitoring/summary", "/monitoring/key", "/gradio_api/dev/reload", "/gradio_api/proxy=http://a.b",
        "/gradio_api/vibe-code/", "/gradio_api/runs", "/gradio_api/run-history/buckets", "/gradio_api/deep_link",
        "/gradio_api/custom_component/1/client/style/a.css", "/gradio_api/stream/1/2/3/playlist.m3u8",
    ],
)  # fmt: skip
def test_routes_that_the_page_does_not_use_are_switched_off(client, path):
    for method in ("GET", "POST"):
        answer = client.request(method, path)
        assert (answer.status_code, answer.text) == (404, "Not found")


@pytest.mark.parametrize("path", ["/etc/passwd", "app.py", "requirements.txt", "../../etc/passwd", "%2e%2e/app.py"])
def test_files_outside_the_assets_are_not_served(client, path):
    assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_a_page_of_another_site_cannot_read_answers_of_a_local_page(client):
    for origin in ("https://example.org", "null"):
        answer = client.get("/config", headers={"origin": origin, "host": "127.0.0.1:7860"})
        assert "access-control-allow-origin" not in answer.headers


def test_the_page_is_launched_with_these_settings():
    options = launch_options()
    assert options["run_history"] is options["enable_monitoring"] is options["ssr_mode"] is False
    assert options["show_error"] is False and "allowed_paths" not in options and "share" not in options
    assert [middleware.cls for middleware in options["app_kwargs"]["middleware"]] == [headers.SecurityHeaders]
