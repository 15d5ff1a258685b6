"""One check in a process of its own: `python -m tests.gpu.child MODULE:FUNCTION ROWS SCRATCH`; rows go to the file ROWS.

It loads what it needs, waits for a line on stdin, so that loading takes no time from the GPU, and runs.
"""

import contextlib
import json
import pkgutil
import sys
from pathlib import Path

from tests.gpu.bench import Bench


def main(runs: str, rows: str, scratch: str, *tiny: str) -> None:
    """Run a check; `scratch` is a folder for its files, and `tiny` is given for a rehearsal."""
    check = pkgutil.resolve_name(runs)
    if not sys.stdin.readline():
        return  # nobody is waiting any more
    with Path(rows).open("w") as stream, contextlib.closing(check(Bench(bool(tiny), Path(scratch)))) as found:
        for row in found:
            stream.write(json.dumps(row) + "\n")
            stream.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
