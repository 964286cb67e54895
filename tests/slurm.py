"""Slurm for tests: a real one of a single node where Debian's packages are installed, and a stand-in that runs jobs on its
own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/s
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/log/ctld.log
SlurmdLogFile={folder}/log/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SchedulerParameters=requeue_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
STAND_IN = """\
#!{python}
import os, re, subprocess, sys
script = sys.argv[1]
text = open(script).read()
name = re.search(r"--job-name=(\\S+)", text)[1].strip("'")
folder = {folder!r}
number = str(len(os.listdir(folder)) + 100)
found = re.search(r"--array=0-(\\d+)", text)
tasks = range(int(found[1]) + 1) if found else [None]
jobs = [number if task is None else f"{{number}}_{{task}}" for task in tasks]
open(f"{{folder}}/{{number}}", "w").write("\\n".join([name, *jobs]))
print(f"Submitted batch job {{number}}", flush=True)
if os.fork():
    sys.exit(0)
os.setsid()
for stream in (0, 1, 2):
    os.dup2(os.open(os.devnull, os.O_RDWR), stream)
for task, job in zip(tasks, jobs):
    env = os.environ | {{"SLURM_JOB_ID": number}}
    if task is not None:
        env |= {{"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}}
    open(f"{{folder}}/{{number}}", "a").write(f"\\nbegun {{job}}")
    subprocess.run(["bash", script], env=env)
    open(f"{{folder}}/{{number}}", "a").write(f"\\nended {{job}}")
"""
SRUN = """\
#!{python}
import os, sys
arguments = sys.argv[1:]
while arguments[0].startswith("-"):
    arguments = arguments[2:] if arguments[0] in ("--output", "--error") else arguments[1:]
os.execvp(arguments[0], arguments)
"""
SQUEUE = """\
#!{python}
import os, sys
name = sys.argv[sys.argv.index("--name") + 1]
for number in os.listdir({folder!r}):
    told, *lines = open(f"{folder}/{{number}}").read().split("\\n")
    for job in lines:
        if told == name and " " not in job and f"ended {{job}}" not in lines:
            print(job, "RUNNING" if f"begun {{job}}" in lines else "PENDING")
"""


def why_not() -> str | None:
    """Why the real one cannot be started here; None if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"needs Debian's slurm-wlm and munge: no {', '.join(missing)}"
    return "needs root, to start Slurm's daemons" if os.geteuid() else None


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@contextlib.contextmanager
def cluster(folder: Path) -> Generator[dict[str, str]]:
    """A cluster of this machine, with all that it writes in a folder; what has to be in the environment of its users. Its daemons
    are gone afterwards."""
    for name in ("munge", "state", "spool", "log"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for path in (folder, *folder.parents):  # munged distrusts a socket that others cannot reach
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    host, conf = socket.gethostname().partition(".")[0], folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, ports=(_free_port(), _free_port())))
    env = {"SLURM_CONF": str(conf), "PATH": _path()}
    munge = (f"socket={folder}/munge/s", f"pid-file={folder}/munge/pid", f"log-file={folder}/log/munged.log")
    munge += (f"seed-file={folder}/munge/seed",)
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", *(f"--{name}" for name in munge)],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in daemons:
            with (folder / "log" / f"{command[0]}.out").open("wb") as out:
                started.append(subprocess.Popen(command, env=os.environ | env, stdout=out, stderr=out, start_new_session=True))
            time.sleep(0.5)
        give_up = time.monotonic() + 30
        while "idle" not in (told := _sinfo(env)):
            if time.monotonic() > give_up or any(each.poll() is not None for each in started):
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted((folder / "log").iterdir()))
                raise AssertionError(f"no node became idle: {told}\n{logs}")
            time.sleep(0.2)
        yield env
    finally:
        subprocess.run(["scancel", "--signal=KILL", "--user=root"], env=os.environ | env, capture_output=True)
        for each in reversed(started):
            each.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(10)
            each.kill()
            each.wait()


def _sinfo(env: dict[str, str]) -> str:
    done = subprocess.run(["sinfo", "--noheader", "--format=%T"], env=os.environ | env, capture_output=True, text=True)
    return done.stdout + done.stderr


def stand_in(folder: Path) -> dict[str, str]:
    """Programs called as Slurm's are: `sbatch` runs the tasks of a job one after another in the background."""
    jobs, programs = folder / "jobs", folder / "programs"
    jobs.mkdir()
    programs.mkdir()
    for name, text in (("sbatch", STAND_IN), ("srun", SRUN), ("squeue", SQUEUE)):
        path = programs / name
        path.write_text(text.format(python=sys.executable, folder=str(jobs)))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{programs}:{os.environ['PATH']}"}
