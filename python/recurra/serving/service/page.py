"""The page on which people try a model."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path


@cache
def text() -> str:
    """The page, which holds all that it needs."""
    return (Path(__file__).parent / "page.html").read_text("utf-8")


@cache
def headers() -> dict[str, str]:
    """Those that let a browser run this page's own script and nothing else."""
    found = {tag: _digest(tag) for tag in ("script", "style")}
    rules = [
        "default-src 'none'",
        "connect-src 'self'",
        f"script-src '{found['script']}'",
        f"style-src '{found['style']}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return {
        "Content-Security-Policy": "; ".join(rules),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _digest(tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text(), re.DOTALL)
    assert found is not None
    return "sha256-" + base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
