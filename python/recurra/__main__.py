"""`python -m recurra`: what a bug report needs; `python -m recurra serve model.safetensors`: a model as a service."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

import numpy as np

import recurra as rc


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Run the command that is asked for."""
    from recurra.serving.service import command

    parser = argparse.ArgumentParser("python -m recurra", description="Without a command: what a bug report needs.")
    commands = parser.add_subparsers(dest="command")
    command.add_arguments(
        commands.add_parser("serve", help="a model as a service: HTTP for sequences, WebSocket for streams")
    )
    options = parser.parse_args()
    if options.command == "serve":
        command.run(options)
    else:
        report()


def report() -> None:
    """Print version, build, processor, instruction set and threads."""
    build = rc.build_info()
    about = {
        "recurra": f"{build['version']}, built by {build['compiler']}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, numpy {np.__version__}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "instruction set": f"{build['isa']}, of {', '.join(build['isas_supported'])} that run here",
        "threads": f"{rc.get_num_threads()}, from {'OpenMP' if build['threads'] == 'openmp' else 'a pool of its own'}",
        "cuda": "yes" if build["cuda"] else "no",
    }
    width = max(map(len, about))
    sys.stdout.writelines(f"{name:<{width}}  {value}\n" for name, value in about.items())


def run() -> None:
    """`main`, and no traceback when nobody reads on, as behind `| head -1`."""
    try:
        try:
            main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
        sys.exit(1)


if __name__ == "__main__":
    run()
