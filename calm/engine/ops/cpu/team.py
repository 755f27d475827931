"""Threads that compute all layers of a model together, in one parallel region.

To start and end a region for each layer takes longer than a small layer. Here every thread goes through the same
phases. In a phase the threads claim tasks until none is left, and wait until all tasks are done. A thread that the
system does not run claims nothing, so the others compute its share: a region also ends if one thread runs all of it.

The counters of a team are int64 [phases, 16]: for each phase the number of claimed tasks, and in another cache line
that of completed ones.
"""

import os
import platform

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.extending import intrinsic, overload

from .compilation import serial
from .packing import CACHE_LINE

_LINE = CACHE_LINE // 8
SPINS = 2000  # checks before a waiting thread sleeps, some 50 microseconds: more than a phase of one text takes
NAP = 20  # microseconds of sleep between further checks, in which the system can run the other threads
_sleep = types.ExternalFunction("usleep", signature(types.int32, types.uint32))


def _element(context, builder, kind, array, index):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def _fetch_add(context, counters, index, amount):
    """Adds to a counter and returns its former value, in one atomic operation."""

    def generate(context, builder, signature, arguments):
        address = _element(context, builder, signature.args[0], *arguments[:2])
        return builder.atomic_rmw("add", address, arguments[2], "acq_rel")

    return types.int64(counters, types.int64, types.int64), generate


@intrinsic
def _load(context, counters, index):
    """The value of a counter, with everything that was written before it got this value."""

    def generate(context, builder, signature, arguments):
        address = _element(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(address, "acquire", 8)

    return types.int64(counters, types.int64), generate


@intrinsic
def _pause(context):
    """Tells an x86 processor that this is a waiting loop."""

    def generate(context, builder, signature, arguments):
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


def _nap():
    """Lets the system run other threads."""


@overload(_nap)
def _nap_overload():
    if os.name != "posix":
        return lambda: None
    return lambda: _sleep(NAP)  # type: ignore[call-overload]


@serial
def new_team(phases):
    """The counters of a team."""
    return np.zeros((phases, 2 * _LINE), np.int64)


@serial
def claim(counters):
    """The next task of a phase. A number beyond the tasks means that none is left."""
    return _fetch_add(counters, 0, 1)  # type: ignore[call-arg]  # numba adds the context


@serial
def finish(counters, done, tasks):
    """Returns when all tasks of a phase are done; this thread did ``done`` of them."""
    if done:
        _fetch_add(counters, _LINE, done)  # type: ignore[call-arg]
    checks = 0
    while _load(counters, _LINE) < tasks:  # type: ignore[call-arg]
        checks += 1
        if checks < SPINS:
            _pause()  # type: ignore[call-arg]
        else:
            _nap()
