"""The MCP server: each endpoint is a tool with an output schema, and its result is JSON with structured content."""

from __future__ import annotations

import json
from typing import Any

import gradio.mcp
from mcp import types
from mcp.server import Server
from pydantic import TypeAdapter

from .endpoints import RESULTS


def output_schema(tool: str) -> dict[str, Any]:
    """JSON schema of the structured content of an endpoint. MCP wants an object, so a list is wrapped in one."""
    schema = TypeAdapter(RESULTS[tool]).json_schema()
    if schema.get("type") == "object":
        return schema
    definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
    return {"type": "object", "properties": {"result": schema}, "required": ["result"], **definitions}


class ToolServer(Server):
    """A server whose tools return structured content. ``app.validation`` checks their arguments."""

    def call_tool(self, *, validate_input: bool = True) -> Any:
        register = super().call_tool(validate_input=False)

        def decorate(call: Any) -> Any:
            async def structured(name: str, arguments: dict[str, Any]) -> types.CallToolResult:
                result = await call(name, arguments)
                value = json.loads(result.content[0].text)
                result.structuredContent = value if isinstance(value, dict) else {"result": value}
                return result

            register(structured)
            return call

        return decorate

    def list_tools(self) -> Any:
        register = super().list_tools()

        def decorate(listed: Any) -> Any:
            async def with_schemas() -> list[types.Tool]:
                tools = await listed()
                for tool in tools:  # on a Space, Gradio puts the name of the Space in front
                    endpoint = next(name for name in RESULTS if tool.name.endswith(name))
                    tool.outputSchema = output_schema(endpoint)
                return tools

            register(with_schemas)
            return listed

        return decorate


class McpServer(gradio.mcp.GradioMCPServer):
    Server = ToolServer

    def postprocess_output_data(self, data: Any, root_url: str) -> list[Any]:
        """Each result as JSON; Gradio would write the representation of a Python object."""
        return [types.TextContent(type="text", text=json.dumps(item, ensure_ascii=False)) for item in data]


def use() -> None:
    """Lets Gradio create this server at launch. It creates the class that its module holds under this name."""
    gradio.mcp.GradioMCPServer = McpServer  # type: ignore[misc]
