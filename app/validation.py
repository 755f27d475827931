"""Checks the arguments of a function once, at the border, and shows them to Gradio as plain parameters.

A kind of request is a frozen Pydantic model (``Arguments``). ``validated`` turns a function of such a model into the
function of plain arguments that Gradio calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import gradio as gr
from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

import calm

from . import shares
from .parsing import WRONG_FORM

EVENT = "the data of a component's event"
"""Marks a field that is the data of an event and no input."""


class Arguments(BaseModel):
    """Checked arguments. The fields are the parameters of the function in order, ``visitor`` excepted."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, hide_input_in_errors=True)
    mistake: ClassVar[str] = WRONG_FORM
    """The sentence about an argument whose structure is wrong, without its full stop."""
    visitor: str = ""
    """Who asks: the session of a page or a client, or its address; empty for a call in Python."""

    @classmethod
    def parse(cls, values: Any) -> Any:
        """The model of these values. Raises CalmError."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            cause = first.get("ctx", {}).get("error")
            if isinstance(cause, calm.CalmError):
                raise cause from None
            if cls.mistake != WRONG_FORM:
                raise calm.CalmError(f"{cls.mistake}.") from None
            where = ".".join(map(str, first["loc"])) or "request"
            raise calm.CalmError(f"{WRONG_FORM} ({where[:60]}: {first['msg'].lower()}).") from None


def validated(
    kind: type[Arguments], *names: str, boundary: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Callable[[Callable[[Any], Any]], Callable[..., Any]]:
    """Makes a function of checked arguments callable with plain ones, in the order of ``names`` (default: all fields).

    Gradio reads names, types and defaults from the signature, and adds the request and the event's data. ``boundary``
    surrounds each call, the check included.
    """
    order = names or tuple(name for name in kind.model_fields if name != "visitor")
    event = [name for name in order if EVENT in kind.model_fields[name].metadata]

    def decorate(function: Callable[[Any], Any]) -> Callable[..., Any]:
        def arguments(values: tuple[Any, ...], named: dict[str, Any]) -> Any:
            given = {**dict(zip((*order, "visitor"), values)), **named}
            for name in event:
                given[name] = getattr(given.get(name), "_data", given.get(name))
            return kind.parse({**given, "visitor": visitor_of(given.get("visitor"))})

        def call(*values: Any, **named: Any) -> Any:
            with boundary():
                checked = arguments(values, named)
                with shares.REQUESTS.hold(checked.visitor):
                    return function(checked)

        def stream(*values: Any, **named: Any) -> Any:
            with boundary():
                checked = arguments(values, named)
                with shares.REQUESTS.hold(checked.visitor):
                    yield from function(checked)

        wrapper = stream if inspect.isgeneratorfunction(function) else call
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(wrapper, attribute, getattr(function, attribute))
        returns = function.__annotations__.get("return", Any)
        _set_signature(wrapper, {name: kind.model_fields[name] for name in order}, event, returns)
        return wrapper

    return decorate


def validated_message(
    kind: type[Arguments], share: shares.Share
) -> Callable[[Callable[[Any], Any]], Callable[..., Any]]:
    """Makes a function of checked arguments a server function of a component, which gets one JSON object. Each call
    counts towards ``share`` while it runs."""

    def decorate(function: Callable[[Any], Any]) -> Callable[..., Any]:
        def call(message: Any, visitor: gr.Request | None = None) -> Any:
            message = {**message, "visitor": visitor_of(visitor)} if isinstance(message, dict) else message
            checked = kind.parse(message)
            with share.hold(checked.visitor):
                return function(checked)

        call.__name__, call.__doc__ = function.__name__, function.__doc__
        call.__annotations__["visitor"] = gr.Request
        return call

    return decorate


def visitor_of(request: Any) -> str:
    """Who asks: the session of a page or a client, else the address; empty without a request."""
    client = getattr(request, "client", None)
    return str(_session_of(request) or getattr(client, "host", ""))


def _session_of(request: Any) -> str | None:
    """The session that a request names. Gradio gives a server function the request of the web server, which has the
    session in its body; behind a proxy, all visitors have one address."""
    if isinstance(request, Request):
        body = getattr(request, "_json", None)  # Gradio has read the body before it calls the function
        return body.get("session_hash") if isinstance(body, dict) else None
    return getattr(request, "session_hash", None)


def _set_signature(function: Any, fields: dict[str, FieldInfo], event: Sequence[str], returns: Any) -> None:
    """Shows the fields to Gradio as parameters, and a last one into which it puts the request."""
    hints = {name: gr.EventData if name in event else info.annotation for name, info in fields.items()}
    parameters = [_parameter("visitor", gr.Request, None)]
    for name in reversed(fields):
        optional = parameters[0].default is not inspect.Parameter.empty
        has_default = name in event or not fields[name].is_required()
        default = fields[name].get_default() if optional and has_default else inspect.Parameter.empty
        parameters.insert(0, _parameter(name, hints[name], None if name in event else default))
    function.__signature__ = inspect.Signature(parameters, return_annotation=returns)
    function.__annotations__ = {**hints, "visitor": gr.Request}


def _parameter(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=hint)
