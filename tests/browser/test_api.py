"""The endpoints of the running page, as programs and language models call them."""

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import jsonschema
import pytest
from gradio_client import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from calm import storyland

ENDPOINTS = {"generate", "reconstruct", "trajectory", "evaluate", "search"}


def test_the_named_endpoints_answer(address):
    client = Client(address, verbose=False)
    result = client.predict("Once upon a time", 0.5, 32, 0, "auto", 200, api_name="/generate")
    assert result["text"].startswith("Once upon a time") and result["steps"] <= 8
    result = client.predict("Mia lost her kite.", 0.0, 0, api_name="/reconstruct")
    assert result["token_accuracy"] == 1.0 and "".join(c["text"] for c in result["chunks"]) == "Mia lost her kite."
    path = client.predict("Once upon a time", 0.5, 32, 0, api_name="/trajectory")
    assert [step["index"] for step in path] == list(range(len(path)))
    assert all(len(step["plane"]) == 2 and len(step["space"]) == 3 for step in path)
    text = "\n\n".join(storyland.stories("validation", 2))
    result = client.predict(text, 0, api_name="/evaluate")
    assert 0 <= result["low"] <= result["score"] <= result["high"] <= 100 and len(result["brier"]) == 4


def test_endpoints_answer_bad_input_with_one_sentence(address):
    client = Client(address, verbose=False)
    with pytest.raises(Exception, match="temperature must be above 0"):
        client.predict("x", 9.0, 32, 0, "auto", 200, api_name="/generate")
    with pytest.raises(Exception, match="no text to reconstruct"):
        client.predict("", 0.0, 0, api_name="/reconstruct")


def test_no_direct_call_skips_the_queue(address):
    body = json.dumps({"data": ["Once", 0.0, 0]}).encode()
    url, headers = f"{address}/gradio_api/run/reconstruct", {"Content-Type": "application/json"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, body, headers))
    assert refused.value.code == 404


def test_only_the_four_endpoints_are_public(address):
    named = Client(address, verbose=False).view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {f"/{name}" for name in ENDPOINTS}


def test_every_model_of_the_menu_can_be_requested(address):
    client = Client(address, verbose=False)
    result = client.predict("Once upon a time", max_new_tokens=8, model="story-ar", api_name="/generate")
    assert result["text"].startswith("Once upon a time") and 1 <= result["steps"] <= 8
    for endpoint, sentence in (("/trajectory", "no map of story-ar"), ("/reconstruct", "token by token")):
        with pytest.raises(Exception, match=sentence):
            client.predict("Once upon a time", model="story-ar", api_name=endpoint)
    with pytest.raises(Exception, match="choose one of story-k4"):
        client.predict("x", model="other", api_name="/generate")


def test_the_examples_of_the_documents_run(address, capsys):
    usage = (Path(__file__).parents[2] / "docs" / "usage.md").read_text(encoding="utf-8")
    examples = [code for code in re.findall(r"```python\n(.*?)```", usage, re.DOTALL) if "gradio_client" in code]
    assert examples and all("http://127.0.0.1:7860" in code for code in examples)
    for code in examples:
        exec(code.replace("http://127.0.0.1:7860", address), {})
    assert "Once upon a time" in capsys.readouterr().out


def figures(address: str) -> dict[str, float]:
    """The figures of ``/metrics``, by name and labels as they are written."""
    lines = urllib.request.urlopen(f"{address}/metrics").read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def idle(address: str) -> dict[str, float]:
    """The figures once no text is generated and no request waits."""
    for _ in range(600):
        now = figures(address)
        if not now["calm_active_slots"] and not now['calm_queued_requests{queue="page"}']:
            return now
        time.sleep(0.1)
    raise AssertionError("The run goes on.")


def test_a_client_that_leaves_in_the_middle_ends_its_run(address):
    before = idle(address)
    host, steps = address.removeprefix("http://"), 128
    inputs = {"data": ["Once upon a time", 2.0, 4 * steps, 0, "auto", 3000, "story-k4"]}
    call = HTTPConnection(host)
    call.request("POST", "/gradio_api/call/generate", json.dumps(inputs), {"Content-Type": "application/json"})
    event = json.loads(call.getresponse().read())["event_id"]
    connection = HTTPConnection(host)
    connection.request("GET", f"/gradio_api/call/generate/{event}")
    stream = connection.getresponse()
    assert any(b'"steps"' in line for line in iter(stream.readline, b""))
    assert figures(address)["calm_active_slots"] == 1
    stream.close()
    connection.close()
    after = idle(address)
    assert 1 <= after["calm_steps_total"] - before["calm_steps_total"] < steps / 2
    assert json.loads(urllib.request.urlopen(f"{address}/health").read())["status"] in ("ready", "degraded")


def test_mcp_clients_list_and_call_the_tools(address):
    async def visit():
        async with (
            streamablehttp_client(f"{address}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            asked = (
                ("reconstruct", {"text": "Mia lost her kite.", "seed": "0"}),
                ("trajectory", {"max_new_tokens": 8}),
                ("generate", {"temperature": 9}),
            )
            return tools, *[await session.call_tool(*call) for call in asked]

    with ThreadPoolExecutor(1) as apart:  # Playwright has an event loop of its own in this thread
        tools, answer, path, refusal = apart.submit(lambda: asyncio.run(visit())).result()
    assert {tool.name for tool in tools} == ENDPOINTS
    for tool in tools:
        properties = tool.inputSchema["properties"]
        assert len(tool.description) > 30 and all(len(entry["description"]) > 10 for entry in properties.values())
        assert all(entry["description"].rstrip().endswith(".") for entry in properties.values())  # none is cut off
    assert not answer.isError and json.loads(answer.content[0].text) == answer.structuredContent
    assert answer.structuredContent["token_accuracy"] == 1.0
    assert path.structuredContent["result"][0]["index"] == 0
    for result, tool in ((answer, "reconstruct"), (path, "trajectory")):
        schema = next(found.outputSchema for found in tools if found.name == tool)
        jsonschema.validate(result.structuredContent, schema)
    assert refusal.isError and "temperature must be above 0" in refusal.content[0].text
    assert "Traceback" not in refusal.content[0].text
