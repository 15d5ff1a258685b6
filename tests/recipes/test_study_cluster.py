"""A study on Slurm: a cluster of one node, with its own controller and credentials, that runs the study's jobs."""

import os
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT

TOOLS = ("slurmctld", "slurmd", "munged", "sbatch", "unshare")
PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
LACKING = [tool for tool in TOOLS if not shutil.which(tool, path=PATH)]
PORTS = 2  # of the controller and of the node

pytestmark = [
    pytest.mark.launched,
    pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)} (Debian: slurm-wlm)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace of its own, which takes root"),
    pytest.mark.skipif(find_spec("snakemake_executor_plugin_slurm") is None, reason="needs the extra `slurm`"),
]

# The plugin takes SLURM_CONF out of the environment, so the configuration has to stand where Slurm looks for it.
CLUSTER = """
set -e
mkdir -p /etc/slurm && mount --bind {place} /etc/slurm
munged --force --key-file={place}/munge.key --socket={place}/munge.socket --pid-file={place}/munge.pid \
  --log-file={place}/munge.log --seed-file={place}/munge.seed
slurmctld; slurmd
trap 'kill $(cat {place}/*.pid)' EXIT
for i in $(seq 60); do sinfo --noheader --states=idle | grep -q idle && break; sleep 1; done
set +e
cd {place}
{command}
"""
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/controller.pid
SlurmdPidFile={place}/node.pid
SlurmctldLogFile={place}/controller.log
SlurmdLogFile={place}/node.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def find_ports() -> list[int]:
    held = [socket.socket() for _ in range(PORTS)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def run_on_cluster(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the shipped study, with its outputs in a folder, on a cluster that lives as long as it does."""
    for name in ("state", "spool"):
        (place / name).mkdir(exist_ok=True)
    (place / "munge.key").write_bytes(os.urandom(128))
    (place / "munge.key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    (place / "slurm.conf").write_text(CONFIGURATION.format(place=place, host=host, ports=find_ports()))
    (place / "study.yaml").write_text(
        (ROOT / "recipes/study/miniworld.yaml").read_text().replace("runs/miniworld", f"{place}/runs")
    )
    profile = ROOT / "recipes/study/profiles/slurm"
    command = (
        f"{sys.executable} -m recipes.study study.yaml --profile {profile} --slurm-status-command squeue {' '.join(options)}"
    )
    words = ["unshare", "--mount", "bash", "-c", CLUSTER.format(place=place, command=command)]
    return subprocess.run(words, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, check=False, timeout=600)


def test_jobs_of_a_study_are_jobs_of_the_cluster(tmp_path):
    tmp_path.chmod(0o755)
    done = run_on_cluster(tmp_path, "--until", "questions")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("has been submitted with SLURM jobid") == 2
    assert (tmp_path / "runs/questions/README.md").exists()
    assert (tmp_path / "runs/logs/questions.log").read_text().startswith("|")
    assert "_job_complete: JobId=2 done" in (tmp_path / "controller.log").read_text()


def test_a_partition_that_there_is_not_is_named(tmp_path):
    tmp_path.chmod(0o755)
    done = run_on_cluster(tmp_path, "--until", "world", "--default-resources", "slurm_partition=elsewhere")
    assert done.returncode != 0
    assert "elsewhere" in done.stderr
    assert not (tmp_path / "runs/world").exists()
