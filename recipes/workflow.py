"""Running a workflow of rules: with a lock, with this Python's commands, and what is missing of it alone."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run_workflow(snakefile: Path, settings: Path, output: Path, options: Sequence[str]) -> bool:
    """Run Snakemake; a lock keeps two runs apart, and one that a killed run left is taken away.

    Args:
        snakefile: the rules.
        settings: the file that configures them.
        output: the folder that is worked on.
        options: Snakemake's; as many jobs as there are processors where none says how many.

    Returns:
        Whether rules were run, and not only planned.

    Raises:
        SystemExit: a rule failed.
    """
    output.mkdir(parents=True, exist_ok=True)
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--configfile", str(settings)]
    # The commands of the rules are those of this Python; one thread a job, since jobs run side by side.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | os.environ | {"PATH": path}
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # It may be what a killed run left behind: Snakemake holds the lock too, and goes on without its parent.
            print(f"{output} is being worked on by another run of this study: waiting for it to end.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([*snakemake, "--unlock", "--quiet", "all"], env=environment, check=False, capture_output=True)
        if not any(option.startswith(("--cores", "-c", "--jobs", "-j", "--profile")) for option in options):
            options = ["--cores", str(os.cpu_count()), *options]
        command = [*snakemake, "--rerun-incomplete", "--keep-going", "--show-failed-logs", *options]
        done = subprocess.run(command, env=environment, check=False, pass_fds=[lock.fileno()])
    if done.returncode:
        raise SystemExit(done.returncode)
    return not {"-n", "--dry-run", "--dryrun"} & set(options)
