"""What `docs/runs.md` shows can be typed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from process import called

ROOT = Path(__file__).parent.parent


def test_every_command_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "old_runs" / "runs", tmp_path / "runs")
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "runs.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    assert {command[1] for command in commands} == {"runs", "tag", "note", "archive", "import", "watch", "rm"}
    for command in commands:
        done = called(*command[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
