"""What a sweep is asked for becomes its cells: every combination once, every mistake told once and where it was made, and a
folder that is whole whatever happened to it."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from process import TINY, called

from aecli.config import yamlfile
from aecli.config.load import parse
from aecli.config.schema import dump
from aecli.errors import AecliError, ConfigError, RunError, UsageError
from aecli.runs import directory
from aecli.sweeps import flow, folder
from aecli.sweeps.asked import Asked, flag_text, from_file, from_flags, is_sweep
from aecli.sweeps.draft import MOST_CELLS, Draft, config_hash, count, draft, rebuilt
from aecli.sweeps.folder import Sweep
from aecli.sweeps.holding import Held
from aecli.sweeps.local import Blocks
from aecli.sweeps.slurm import Slurm

FINGERPRINT = "f" * 64


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def ignore(line: str) -> None:
    pass


def drafted(asked: Asked, share: int | None = None) -> Draft:
    made = draft(asked, share, ignore)
    made.mistakes.check()
    return made


def mistakes(asked: Asked) -> list[Any]:
    with pytest.raises(ConfigError) as caught:
        drafted(asked)
    return list(caught.value.diagnostics)


def flags_of(made: Draft) -> list[tuple[str, ...]]:
    return [(*group.flags, f"seed={seed}") for group in made.groups for seed in made.seeds]


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**62), 2**62),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text("abc_", min_size=1, max_size=4), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(values, values)
def test_a_value_is_read_back_from_the_flag_that_it_is_written_as(value: Any, other: Any) -> None:
    assert yamlfile.parse_value(f"[{flag_text(value)}, {flag_text(other)}]", "") == (value, other)
    if value is not None:
        assert yamlfile.parse_value(flag_text(value), "") == value


def test_a_grid_is_every_combination_and_its_seeds_stand_together(config: Path) -> None:
    made = drafted(from_flags(config, grid=["model.hidden=[64],[128,64]", "model.beta=1,4"], seed_list="7,3"))
    expected = [
        (f"model.hidden={hidden}", f"model.beta={beta}", f"seed={seed}")
        for hidden, beta, seed in itertools.product(("[64]", "[128, 64]"), (1, 4), (7, 3))
    ]
    assert flags_of(made) == expected and made.cells == len(expected)
    hidden = [group.config.experiment.model_dump()["model"]["hidden"] for group in made.groups]
    assert hidden == [(64,), (64,), (128, 64), (128, 64)]


def test_zipped_settings_vary_together(config: Path) -> None:
    made = drafted(from_flags(config, grid=["model.beta=1,4"], zipped=["model.latent=2,3", "model.hidden=[8],[4]"]))
    told = [group.varied for group in made.groups]
    assert told == [
        (f"model.beta={beta}", f"model.latent={latent}", f"model.hidden={hidden}")
        for beta in (1, 4)
        for latent, hidden in ((2, "[8]"), (3, "[4]"))
    ]


def test_seeds_are_counted_from_the_configs_own(config: Path) -> None:
    assert drafted(from_flags(config, seeds=3)).seeds == (0, 1, 2)
    assert drafted(from_flags(config, ["seed=5"], seeds=3)).seeds == (5, 6, 7)
    assert drafted(from_flags(config, grid=["model.beta=1,2"])).seeds == (0,)
    assert drafted(from_flags(config, grid=["seed=9,4", "model.beta=1,2"])).seeds == (9, 4), "a grid of seeds is seeds"


def test_a_file_says_the_same_as_flags(config: Path, tmp_path: Path) -> None:
    told = from_flags(
        config,
        ["train.steps=10", "model.likelihood=gaussian"],
        ["model.beta=1,1e-3", "train.monitor=loss,rate_nats"],
        ["model.latent=2,3", "model.hidden=[8],[4, 3]"],
        seed_list="4,2",
        only=("reconstruction", "objective"),
        select="mse",
        threads=1,
        name="mine",
    )
    path = tmp_path / "sweep.yaml"
    path.write_text(told.as_file())
    assert is_sweep(path) and not is_sweep(config)
    again = from_file(path)
    assert flags_of(drafted(again)) == flags_of(drafted(told))
    assert (again.only, again.select, again.threads, again.name) == (told.only, told.select, told.threads, told.name)
    assert again.as_file() == path.read_text(), "kept as it was given"


def test_the_file_of_the_documents_is_one(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    (block,) = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "sweep.md").read_text(), re.DOTALL)
    (tmp_path / "configs").symlink_to(root / "configs")
    (tmp_path / "sweep.yaml").write_text(block)
    assert is_sweep(tmp_path / "sweep.yaml") and drafted(from_file(tmp_path / "sweep.yaml")).cells == 2 * 2 * 5


def test_every_mistake_is_told_once_and_at_its_flag(config: Path) -> None:
    grid = ["model.btea=1,2,3", "model.hidden=[a],[3]", "model.latent=", "model.beta=1,2", "model.beta=3", "nothing"]
    found = mistakes(from_flags(config, ["optimizer.learning_rate=x"], grid, ["train.steps=3"], seeds=2, seed_list="1,1,x"))
    told = [(each.file, each.rule) for each in found]
    assert len(set(told)) == len(told), "each once, though every cell has it"
    assert set(told) == {
        ("--grid model.btea=1,2,3", "unknown-key"),
        ("--grid model.hidden=[a],[3]", "bad-value"),
        ("--grid model.latent=", "empty"),
        ("--grid model.beta=3", "duplicate"),
        ("--grid nothing", "bad-flag"),
        ("--zip train.steps=3", "zip"),
        ("--seed-list 1,1,x", "bad-flag"),
        ("--seed-list 1,1,x", "duplicate"),
        ("--seed-list 1,1,x", "bad-value"),
        ("--set optimizer.learning_rate=x", "bad-value"),
    }
    assert next(each for each in found if each.rule == "unknown-key").label == "did you mean 'beta'?"


def test_mistakes_of_a_file_stand_at_their_line_and_column(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    lines = ["config: tiny.yaml", "grid:", "  model.beta: [1, x]", "  model.latnet: [1, 2]", "  optimizer: 3", "seds: 3"]
    lines += ["zip: {model.sigma: [2, 3], model.hidden: [[8]]}", "seeds: [1, -1]", "eval: 3", "threads: 0", "set: 4"]
    path.write_text("\n".join(lines))
    found = {(each.line, each.column): each.rule for each in mistakes(from_file(path))}
    assert found == {
        (3, lines[2].index("x") + 1): "bad-value",
        (4, 3): "unknown-key",
        (5, 14): "bad-value",
        (6, 1): "unknown-key",
        (7, 28): "zip",
        (8, 12): "bad-value",
        (9, 7): "bad-value",
        (10, 10): "bad-value",
        (11, 6): "bad-value",
    }


def test_a_combination_that_fails_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(TINY.replace("data: {name: digits, ", "data: {name: vectors, path: v.npy, "))
    (tmp_path / "v.npy").touch()
    (found,) = mistakes(from_flags(path, grid=["data.binarize=none,dynamic", "model.beta=1,4"]))
    assert found.message.endswith("(of data.binarize=dynamic model.beta=1, and 1 more combinations)")
    (found,) = mistakes(from_flags(path, grid=["train.epochs=1,2", "train.steps=null,3"]))
    assert found.message.endswith("(of train.epochs=1 train.steps=3, and 1 more combinations)")


def test_a_mistake_of_the_config_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(TINY.replace("latent: 3", "latent: three"))
    (found,) = mistakes(from_flags(path, grid=["model.beta=1,2,3"]))
    assert found.file == str(path) and found.line == 3


def test_equal_cells_are_trained_once_and_told(config: Path) -> None:
    told: list[str] = []
    made = draft(from_flags(config, grid=["model.beta=4,4.0,1"]), None, told.append)
    assert [group.label for group in made.groups] == ["model.beta=4", "model.beta=1"]
    assert told == ["model.beta=4.0 is the same as model.beta=4: trained once"]


def test_settings_given_as_a_block_do_not_run_into_each_other(config: Path) -> None:
    """One value of a grid stands in the configs of many cells, each of which changes a setting inside."""
    block = "{variant: vae, hidden: [16]}"
    made = drafted(from_flags(config, grid=[f"model={block}"], sets=["train.steps=3"]))
    config_text = parse(TINY, "c", [f"model={block}", "model.latent=2"])
    assert config_text.experiment.model_dump()["model"]["latent"] == 2
    assert made.groups[0].config.experiment.model_dump()["model"]["latent"] != 2


def test_more_cells_than_any_sweep_has_are_refused_before_they_are_made(config: Path) -> None:
    many = ",".join(map(str, range(1, 1001)))
    asked = from_flags(config, grid=[f"model.latent={many}", f"model.beta={many}"])
    with pytest.raises(UsageError, match="1,000,000 cells"):
        count(asked)
    assert count(from_flags(config, grid=["model.latent=1,2"], seeds=5)) == 10 <= MOST_CELLS


def test_nothing_that_varies_is_no_sweep(config: Path) -> None:
    with pytest.raises(UsageError, match="nothing varies"):
        from_flags(config)


@pytest.mark.parametrize("share, told", [(None, None), (2, 2)])
def test_workers_get_a_stated_share_of_the_cores_unless_it_is_said(config: Path, share: int | None, told: int | None) -> None:
    def threads(**more: Any) -> list[int | None]:
        made = drafted(from_flags(config, seeds=2, **more), share)
        return [group.config.experiment.train.threads for group in made.groups]

    assert threads() == [told]
    assert threads(sets=["train.threads=3"]) == [3]
    assert threads(grid=["train.threads=1,4"]) == [1, 4]
    assert threads(threads=5) == [5]


def test_the_hash_of_a_config_is_that_of_what_a_run_keeps_wherever_the_data_lies(tmp_path: Path) -> None:
    text = TINY.replace("data: {name: digits, ", "data: {name: vectors, path: v.npy, ")
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "v.npy").touch()
    here, there = (rebuilt(text, "c", tmp_path / place, ["model.beta=4"]) for place in ("a", "b"))
    digest = config_hash(here.experiment.model_dump())
    assert here.experiment.data.path != there.experiment.data.path
    assert digest == config_hash(there.experiment.model_dump()) == config_hash(yamlfile.parse(dump(here.experiment), "").data)
    others = [
        ["model.beta=1"],
        ["model.beta=4", "seed=1"],
        ["model.beta=4", "data.batch_size=16"],
        ["model.beta=4", "train.steps=3"],
    ]
    digests = {config_hash(rebuilt(text, "c", tmp_path / "a", flags).experiment.model_dump()) for flags in others}
    assert len(digests | {digest}) == len(others) + 1


def planned(root: Path, config: Path, **asked: Any) -> Sweep:
    made = drafted(from_flags(config, **asked))
    return flow.create(root, made, [Held(FINGERPRINT, "reconstruction")] * len(made.groups))


def test_what_a_plan_says_makes_the_cell_again(config: Path, tmp_path: Path) -> None:
    sweep = planned(tmp_path / "runs", config, grid=["model.beta=1,4"], seeds=2)
    plan = sweep.plan()
    config.unlink()  # the folder keeps what it needs
    for cell in plan.cells:
        again = rebuilt(sweep.config(), plan.config_path, tmp_path, cell.overrides).experiment
        assert config_hash(again.model_dump()) == cell.config and again.seed == cell.seed
    assert [cell.group for cell in plan.cells] == [1, 1, 2, 2] and {cell.data for cell in plan.cells} == {FINGERPRINT}
    assert (sweep.path / "sweep.yaml").read_text() == f"config: {config}\ngrid:\n  model.beta: [1, 4]\nseeds: 2\n"


def test_no_run_is_mistaken_for_a_sweep_and_no_sweep_for_a_run(config: Path, tmp_path: Path) -> None:
    sweep = planned(tmp_path, config, seeds=2)
    assert directory.every(tmp_path) == []
    with pytest.raises((RunError, UsageError)):
        directory.find(tmp_path, ".sweeps")
    assert folder.find(tmp_path, "last") == folder.find(tmp_path, sweep.id[:-1]) == sweep


def test_sweeps_of_one_name_at_once_are_several(config: Path, tmp_path: Path) -> None:
    made = {planned(tmp_path, config, seeds=2, name="same").id for _ in range(20)}
    assert len(made) == 20 == len(folder.every(tmp_path))
    with pytest.raises(RunError, match="is the start of 20 ids"):
        folder.find(tmp_path, "same")


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a" * 101, "\x1b[2J", "x\n"])
def test_what_can_be_no_id_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        folder.find(tmp_path, name)


def test_a_line_that_a_kill_cut_is_ended_by_the_next(config: Path, tmp_path: Path) -> None:
    sweep = planned(tmp_path, config, seeds=3)
    sweep.append(cell=1, run="one")
    with (sweep.path / "cells.jsonl").open("ab") as file:
        file.write(b'{"cell": 2, "ru')
    assert [line.run for line in sweep.lines()[0]] == ["one"], "it may still be being written"
    sweep.append(cell=3, run="three")
    lines, damaged = sweep.lines()
    assert [(line.cell, line.run) for line in lines] == [(1, "one"), (3, "three")] and damaged == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"cell": 0, "run": "a"}',
        '{"cell": 1, "run": "../a"}',
        '{"cell": 1}',
        '{"cell": 1e3, "run": "a"}',
        "[]",
        "[" * 5000,
        '{"cell": 1, "run": "\\u001b"}',
    ],
)
def test_a_line_that_is_none_is_counted_and_left_out(line: str, config: Path, tmp_path: Path) -> None:
    sweep = planned(tmp_path, config, seeds=2)
    (sweep.path / "cells.jsonl").write_text(line + "\n")
    assert sweep.lines() == ([], 1)


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": 2}', "gone", "a folder", "a fifo", "renumbered"])
def test_a_plan_that_cannot_be_read_is_told(damage: str, config: Path, tmp_path: Path) -> None:
    sweep = planned(tmp_path, config, seeds=2)
    path = sweep.path / "plan.json"
    said = json.loads(path.read_text())
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a fifo":
        os.mkfifo(path)
    elif damage == "renumbered":
        said["cells"].reverse()
        path.write_text(json.dumps(said))
    elif damage != "gone":
        path.write_text(damage)
    with pytest.raises(RunError):
        folder.find(tmp_path, sweep.id)


def test_two_do_not_work_on_one_sweep(config: Path, tmp_path: Path) -> None:
    sweep = planned(tmp_path / "runs", config, seeds=2)
    with sweep.locked():
        done = called("sweep", "--resume", sweep.id, cwd=tmp_path)
    assert done.returncode == RunError.code and f"process {os.getpid()}" in done.stderr


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 5), st.randoms())
def test_every_cell_is_worked_on_once_and_a_group_begun_in_its_order(sizes: list[int], workers: int, lot: Any) -> None:
    cells = [
        folder.Cell(cell=number + 1, group=group, overrides=[], seed=0, config=FINGERPRINT, data="")
        for number, group in enumerate(group for group, size in enumerate(sizes, 1) for _ in range(size))
    ]
    blocks, taken = Blocks(cells, workers), dict[int, list[int]]()
    while len(blocks):
        index = lot.randrange(workers)
        cell = blocks.next(index)
        assert cell is not None
        taken.setdefault(index, []).append(cell)
    assert sorted(itertools.chain(*taken.values())) == [cell.cell for cell in cells]
    if workers == 1:
        assert taken[0] == [cell.cell for cell in cells], "seeds of one config one after another"


def test_an_idle_worker_takes_half_of_what_another_has_before_it() -> None:
    cells = [folder.Cell(cell=n, group=1, overrides=[], seed=n, config=FINGERPRINT, data="") for n in range(1, 10)]
    blocks = Blocks(cells, 2)
    assert blocks.next(0) == 1 and blocks.next(1) == 6
    assert [blocks.next(1) for _ in range(3)] == [7, 8, 9] and blocks.next(0) == 2


@pytest.mark.parametrize(
    "text, minutes",
    [("90", 90), ("90m", 90), ("2h", 120), ("1d", 1440), ("30s", 1), ("1:30", 2), ("2:00:00", 120), ("1-12:00", 2160)],
)
def test_times_are_read_as_slurm_reads_them(text: str, minutes: int) -> None:
    assert Slurm(time=text).minutes() == minutes


@pytest.mark.parametrize("text", [None, "", "0", "two", "-1", "1:2:3:4", "2w", "1h30"])
def test_what_is_no_time_is_refused(text: str | None) -> None:
    with pytest.raises(UsageError):
        Slurm(time=text).minutes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep"],
        ["sweep", "c.yaml", "--resume", "x"],
        ["sweep", "--resume", "x", "--seeds", "2"],
        ["sweep", "c.yaml", "--seeds", "2", "--retry"],
        ["sweep", "c.yaml", "--seeds", "2", "--only", "reconstruction"],
        ["sweep", "c.yaml", "--seeds", "2", "--engine", "cloud"],
        ["sweep", "c.yaml", "--seeds", "2", "--partition", "p"],
        ["sweep", "c.yaml", "--seeds", "2", "--engine", "slurm"],
        ["sweep", "c.yaml", "--seeds", "2000"],
        ["sweep", "c.yaml"],
    ],
)
def test_flags_that_do_not_go_together_are_told_before_anything_is_made(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TINY)
    done = called(*arguments, cwd=tmp_path)
    assert done.returncode == UsageError.code and done.stderr.startswith("error: ") and not (tmp_path / "runs").exists()


def test_an_error_of_a_group_that_is_no_mistake_of_the_config_keeps_its_code(config: Path) -> None:
    with pytest.raises(AecliError) as caught:
        drafted(from_flags(config, grid=["data.path=a.npy,b.npy"], sets=["data.name=vectors"]))
    assert caught.value.code == 3 and "a.npy" in caught.value.message and "b.npy" in caught.value.message
