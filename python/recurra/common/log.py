"""What training says: by the logger "recurra", or on stdout where the program has not configured logging."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Tell the user a line, as a record of level INFO. Without a handler for it, as of `logging.basicConfig`, it is
    printed, above a progress bar that is shown."""
    import logging  # late, to keep `import recurra` cheap

    logger = logging.getLogger("recurra")
    if logger.hasHandlers():
        if logger.level == logging.NOTSET:  # else the root's WARNING would hide what verbose= asked for
            logger.setLevel(logging.INFO)
        logger.info("%s", text)
    elif "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text)
        sys.stdout.flush()
    else:
        print(text, flush=True)
