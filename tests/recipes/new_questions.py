"""Questions that nobody here has seen, in a file of one's own."""

import csv
import json
import sys
from pathlib import Path

import yaml
from conftest import ROOT, run_command


def write_csv(path: Path, count: int = 300) -> Path:
    """Questions of a world of another seed as a CSV: question, A to D, answer.

    Args:
        path: the file; what makes the world is written beside it.
        count: how many.
    """
    folder = path.parent
    world = yaml.safe_load((ROOT / "recipes/miniworld/world.yaml").read_text()) | {"seed": 77}
    (folder / "world.yaml").write_text(yaml.safe_dump(world))
    words = ("recipes.miniworld.world", "--config", folder / "world.yaml", "--output", folder / "world")
    done = run_command(sys.executable, "-m", *words)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "world/questions.jsonl").read_text().splitlines()]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "A", "B", "C", "D", "answer"])
        for line in [line for line in lines if line["domain"] == "herbs" and line["source"] != "mmlu"][:count]:
            table.writerow([line["question"], *line["choices"], "ABCD"[line["answer"]]])
    return path
