"""What the suite for speed concludes from numbers, and how the pieces for a GPU go on after failures; nothing is timed."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import compare
import gpu
import jax
import kept
import pytest
import results
from kept import BETTER, REGRESSION, SAME, UNJUDGED, Kept, Number

from aecli.config.load import load
from aecli.core.model import Spec

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("now", "unit", "faster", "told"),
    [
        ([79, 80, 81], "images/s", 1.0, REGRESSION),
        ([94, 95, 99], "images/s", 1.0, SAME),
        ([119, 120, 121], "images/s", 1.0, BETTER),
        ([119, 120, 121], "s", 1.0, REGRESSION),
        ([79, 80, 81], "s", 1.0, BETTER),
        ([199, 200, 201], "images/s", 2.0, SAME),
        ([99, 100, 101], "images/s", 2.0, REGRESSION),
        ([49, 50, 51], "s", 2.0, SAME),
        ([99, 100, 101], "s", 2.0, REGRESSION),
        ([99, 100, 101], "times", 2.0, SAME),
        ([10], "images/s", 1.0, UNJUDGED),
    ],
)
def test_a_change_is_told_beyond_both_spreads_and_the_speed_of_the_machine(
    now: list[float], unit: str, faster: float, told: str
) -> None:
    assert kept.verdict(Number(now, unit), Number([98, 100, 102], unit), faster)[1] == told


def run(flop: float, **values: list[float]) -> Kept:
    return Kept({"day": "2026-01-01"}, flop, {name: Number(found, "images/s") for name, found in values.items()})


def test_what_is_kept_is_added_to_and_replaced_when_asked() -> None:
    before, now = run(1e9, a=[10.0, 11.0], b=[5.0, 6.0]), run(2e9, a=[12.0, 13.0], c=[8.0, 9.0])
    assert kept.merged(now, None, False) == now
    added = kept.merged(now, before, False)
    assert added.flop_per_s == 1e9 and added.numbers["a"] == before.numbers["a"]
    assert added.numbers["c"].values == [4.0, 4.5], "as the slower machine would have it"
    replaced = kept.merged(now, before, True)
    assert replaced.flop_per_s == 2e9 and replaced.numbers["a"] == now.numbers["a"]
    assert replaced.numbers["b"].values == [10.0, 12.0], "what this run left out stays"


def test_the_table_names_regressions_and_what_was_kept_comes_back(tmp_path: Path) -> None:
    before, now = run(1e9, a=[10.0, 10.1], b=[5.0, 5.1]), run(1e9, a=[8.0, 8.1], b=[5.0, 5.1], c=[1.0, 1.1])
    path = tmp_path / "kept" / "some.json"
    assert kept.read(path) is None
    kept.write(path, before)
    text, worse = kept.changes(now, kept.read(path))
    assert worse == ["a"] and text.startswith("1 regression") and "| a | 8.05 (8 to 8.1) images/s | 10.1 (10 to 10.1)" in text
    assert "| c |" in text and "| new |" in text
    assert kept.changes(now, None)[1] == []


def test_a_kind_of_machine_is_its_cores_and_its_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "processor", lambda: "2 x AMD EPYC(TM) 7")
    assert kept.kind("1 x cpu") == "2-x-amd-epyc-tm-7"
    assert kept.kind("1 x NVIDIA H100 80GB HBM3") == "1-x-nvidia-h100-80gb-hbm3-2-x-amd-epyc-tm-7"


def test_a_part_of_the_results_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    for name, body in (("one", "first"), ("two", results.table(["a", "b"], [["1", "x|y"]])), ("one", "second")):
        results.put(path, name, body)
    text = path.read_text()
    assert "first" not in text and text.index("second") < text.index("| a | b |\n|---|---|\n| 1 | x\\|y |")


def test_a_process_that_fails_is_told_by_its_last_error() -> None:
    assert results.answer([sys.executable, "-c", "print(1)"], {}).strip() == "1"
    told = "import sys; sys.exit('error: no\\n  help: do')"
    with pytest.raises(results.Failed, match="exit 1: error: no"):
        results.answer([sys.executable, "-c", told], {})
    with pytest.raises(results.Failed, match="ValueError: why"):
        results.answer([sys.executable, "-c", "raise ValueError('why')"], {})


def test_sides_are_asked_for_what_they_can_do() -> None:
    names = [side.name for side in compare.sides_of("mlp_vae", True, "default", "float32", None)]
    assert names == ["aecli", "PyTorch", "plain Flax loop", "Pythae", "torch.compile"]
    asked = compare.sides_of("mlp_vae", True, "reduce-overhead", "tf32", 4096)
    assert [side.name for side in asked] == ["aecli", "PyTorch", "torch.compile, reduce-overhead"]
    ours, theirs, compiled = (" ".join(side.arguments) for side in asked)
    assert ours.endswith("--set train.precision=tf32 --set data.batch_size=4096")
    assert theirs.endswith("mlp_vae --precision tf32 --batch 4096") and "--compile reduce-overhead" in compiled
    assert [side.peer for side in compare.sides_of("importance", False, "default", "float32", None)] == [False]


@pytest.fixture
def piece(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A piece of three items of which the second fails at first; the names of those that were begun."""
    begun: list[str] = []

    def item(name: str) -> gpu.Item:
        def find(until: float) -> list[list[str]]:
            begun.append(name)
            if begun.count(name) == 1 and name == "two":
                raise ValueError("no\nsuch thing")
            return [[name, "done"]]

        return gpu.Item(name, find)

    made = gpu.Piece("Three.", ("what", "result"), lambda asked: [item("one"), item("two"), item("three")], 100)
    monkeypatch.setitem(gpu.PIECES, "machine", made)
    return begun


def test_a_piece_goes_on_after_a_failure_and_does_later_what_is_left(tmp_path: Path, piece: list[str]) -> None:
    asked = gpu.Asked(True, None, tmp_path, 0.1)
    gpu.do("machine", asked, tmp_path, 0.0, False)
    assert piece == [] and (tmp_path / "RESULTS-GPU.md").read_text().count(gpu.NO_TIME) == 3
    gpu.do("machine", asked, tmp_path, 100.0, False)
    text = (tmp_path / "RESULTS-GPU.md").read_text()
    assert "| one | done |\n| two | failed: ValueError: no such thing |\n| three | done |" in text
    gpu.do("machine", asked, tmp_path, 100.0, False)
    assert piece == ["one", "two", "three", "two"]
    assert "| two | done |" in (tmp_path / "RESULTS-GPU.md").read_text()
    gpu.do("machine", asked, tmp_path, 100.0, True)
    assert piece[4:] == ["one", "two", "three"]


def test_pieces_take_eight_minutes_at_most_and_twenty_five_together() -> None:
    """As `gpu.sh` starts them, which names all but the single recipes."""
    script = (ROOT / "benchmarks" / "gpu.sh").read_text()
    every = re.search(r"all\) pieces\+=\((.*)\)", script)
    assert every is not None and every[1].split() == [name for name in gpu.PIECES if not name.startswith("recipe-")]
    assert sum(gpu.PIECES[name].seconds for name in every[1].split()) <= 25 * 60
    assert all(piece.seconds <= 480 for piece in gpu.PIECES.values()) and "timeout -k 15 480 " in script


def test_all_that_an_item_starts_ends_when_the_time_of_its_piece_does() -> None:
    assert results.answer([sys.executable, "-c", ""], {}, time.monotonic() + 100) == ""
    with pytest.raises(results.Failed, match="the 1 s that were left"):
        results.answer([sys.executable, "-c", "import time; time.sleep(60)"], {}, time.monotonic())


def test_what_was_prepared_for_the_user_is_there_where_nothing_else_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own" / "tfds" / "mnist").mkdir(parents=True)
    (tmp_path / "own" / "shared").mkdir()
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "own"))
    data = Path(results.fresh(tmp_path / "new")["AECLI_DATA_DIR"])
    assert (data / "tfds" / "mnist").is_dir() and not (data / "shared").exists()
    monkeypatch.delenv("AECLI_DATA_DIR")
    assert not Path(results.fresh(tmp_path / "newer")["AECLI_DATA_DIR"]).exists()


def test_every_item_of_a_piece_has_a_name_of_its_own() -> None:
    for tiny in (False, True):
        for name, each in gpu.PIECES.items():
            items = [item.name for item in each.items(gpu.Asked(tiny, None, ROOT, 1.0))]
            assert items and len(set(items)) == len(items), name


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "gpu").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_says_what_to_expect_and_can_be_made_tiny(path: Path) -> None:
    head = path.read_text().partition("seed:")[0]
    assert head.startswith(f"# aecli train configs/gpu/{path.name}\n") and "xpected" in head
    assert any(said in head for said in ("Not run on a GPU yet.", "Not run on a GPU in full yet.", "Run on a GPU."))
    small = load(path, gpu.shrunk(load(path).experiment.model)).experiment
    state = jax.eval_shape(lambda: small.model.init(jax.random.key(0), Spec(8, 8, 1, 10), small.recipe(1000)))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 100_000
