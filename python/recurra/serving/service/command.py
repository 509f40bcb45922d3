"""`python -m recurra serve model.safetensors`."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any

from recurra.common import checks
from recurra.serving.service.service import Service

#: The arguments of `Service` that the command has, and the kind of each.
_OPTIONS: dict[str, tuple[type, str]] = {
    "max_streams": (int, "open streams"),
    "streams_per_client": (int, "of these, for one address"),
    "max_batch": (int, "streams in one native call at most"),
    "max_body": (int, "bytes of a body or message"),
    "max_steps": (int, "steps in one of them"),
    "max_memory": (int, "bytes that all of them hold together"),
    "body_timeout": (float, "seconds for a body to arrive"),
    "step_timeout": (float, "seconds until a stream's step must have begun"),
    "idle_timeout": (float, "seconds after which a stream without messages is closed"),
    "snapshots": (str, "a folder for the states of streams"),
    "snapshot_seconds": (float, "seconds between two snapshots of a stream"),
    "keep_seconds": (float, "seconds for which a stream is kept there that nobody resumes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", help="a file that save() wrote")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default %(default)s, this machine alone"
    )
    parser.add_argument("--port", type=int, default=8000, help="default %(default)s; 0 for any that is free")
    parser.add_argument("--unix-socket", metavar="PATH", help="listen on this in place of host and port")
    parser.add_argument("--threads", type=int, help="of large calls; default: set_num_threads' own")
    defaults = inspect.signature(Service).parameters
    for name, (kind, about) in _OPTIONS.items():
        default = defaults[name].default
        shown = "none" if default is None else default
        metavar = "FOLDER" if kind is str else "N"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=default, metavar=metavar, help=f"{about}; default {shown}"
        )
    parser.add_argument(
        "--origin", action="append", default=[], metavar="URL", help="web page that may open streams; may be repeated"
    )
    parser.add_argument(
        "--trusted-proxies",
        default="",
        metavar="LIST",
        help="addresses whose X-Forwarded-For is believed; default none",
    )
    parser.add_argument("--drain-seconds", type=float, default=30.0, metavar="N", help="to end; default %(default)s")


def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from recurra.common import runtime  # late, as what follows: --help needs none of it
    from recurra.saving.files import load

    try:
        from recurra.serving.service import server
    except ImportError as error:
        sys.exit(f"serve: {error.name} is not installed; run pip install 'recurra[serve]'")
    try:
        if options.threads is not None:
            runtime.set_num_threads(options.threads)
        drain = checks.number("serve", "drain_seconds", options.drain_seconds)
        chosen: dict[str, Any] = {name: getattr(options, name) for name in _OPTIONS}
        service = Service(load(options.model), origins=options.origin, **chosen)
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(str(error))
    listen = {"uds": options.unix_socket} if options.unix_socket else {"host": options.host, "port": options.port}
    server.run(service, drain_seconds=drain, proxies=options.trusted_proxies, **listen)
