"""The page about one's own data: its commands and its study file, as they stand there, on a CSV of new questions."""

import re
import shlex
import sys

import pytest
import yaml
from conftest import BASE, ROOT, run_command
from new_questions import write_csv

from recipes.study.problems import list_problems

PAGE = (ROOT / "recipes/MY_OWN_DATA.md").read_text()
COMMANDS = re.findall(r"^    python (-m .*)$", PAGE, re.MULTILINE)
(STUDY,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_has_five_commands_and_a_study_without_a_fault():
    assert len(COMMANDS) == 5
    assert list_problems(yaml.safe_load(STUDY)) == []


@pytest.mark.launched
def test_from_a_csv_to_a_report(tmp_path):
    write_csv(tmp_path / "herbs.csv")
    # The miniature base, which is asked by text, in place of the page's model; the page says what changes then.
    own = {"base": str(BASE), "training": "recipes/miniworld/full.yaml", "accelerate": "recipes/accelerate/cpu.yaml"}
    own["lm_eval"] = "--model hf-prefix --device cpu --batch_size 64"
    study = yaml.safe_load(STUDY) | {"models": {"mistral-7b": own}, "seeds": [1], "match": "none", "size": 16}
    study |= {"tasks": {"probe": "selfalign_probe_cloze", "chat": "selfalign_chat_cloze"}}
    study["conditions"] = ["self_aligning", "incompatible"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    for command in COMMANDS:
        done = run_command(sys.executable, *shlex.split(command), cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert (tmp_path / "mine/study/report/report.html").is_file()
    assert (tmp_path / "mine/beliefs.parquet").is_file()
