"""The verbs that use what a run has trained: sample and eval."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from aecli.cli import completing
from aecli.cli.options import RUNS, DataPath, Json, Only, RunName, RunsDir, Skip, Which, keep_programs, names, print_json
from aecli.evaluation.request import MOST, EvalRequest
from aecli.sampling.request import DEFAULT, MODE_NAMES, SampleRequest

SAMPLE, EVAL = DEFAULT, EvalRequest()
Sampler: TypeAlias = Annotated[
    str | None, typer.Option(help="Draw codes from a distribution fitted to them: gaussian, gmm, vamp, flow.")
]
Components: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Of the sampler: 10 for gmm, 500 for vamp.")]


def sample(
    context: typer.Context,
    run_name: RunName,
    mode: Annotated[
        str,
        typer.Option(help=f"{', '.join(MODE_NAMES)}.", autocompletion=completing.modes),
    ] = SAMPLE.mode,
    sampler: Sampler = SAMPLE.sampler,
    components: Components = SAMPLE.components,
    n: Annotated[
        int | None, typer.Option("-n", min=1, max=10_000, help="How many images, pairs, latents, units, or images a class.")
    ] = SAMPLE.n,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same picture.")] = SAMPLE.seed,
    temperature: Annotated[
        float, typer.Option(min=0.01, max=100, help="Below 1, draws are more likely and less varied.")
    ] = SAMPLE.temperature,
    region: Annotated[
        str, typer.Option(metavar="upper|left|block|FILE", help="Of complete: what is given; of a mask file, what is white.")
    ] = SAMPLE.region,
    path: Annotated[str, typer.Option(metavar="linear|spherical", help="Of interpolate.")] = SAMPLE.path,
    projection: Annotated[
        str, typer.Option(metavar="pca|tsne", help="Of map: by where codes vary most, or with neighbours near each other.")
    ] = SAMPLE.projection,
    data_path: DataPath = None,
    checkpoint: Which = "best",
    runs_dir: RunsDir = RUNS,
) -> None:
    """Draw pictures from a run. Writes a labelled PNG grid and the arrays as npz, and prints their paths."""
    from aecli.runs import directory
    from aecli.verbs.sample import check_request
    from aecli.verbs.sample import sample as draw

    request = SampleRequest(mode, sampler, components, n, seed, temperature, region, path, projection)
    check_request(request)  # a wrong flag is told before a missing run
    run = directory.find(runs_dir, run_name)
    keep_programs(context)
    for file in draw(run, request, checkpoint, data_path):
        print(file)


def eval(
    context: typer.Context,
    run_name: RunName,
    split: Annotated[str, typer.Option(metavar="test|validation", help="Which held-out images.")] = EVAL.split,
    only: Only = [],  # noqa: B006 (typer reads the default, nothing changes it)
    skip: Skip = [],  # noqa: B006
    everything: Annotated[bool, typer.Option("--all", help="Every evaluator that fits, whatever it costs.")] = EVAL.everything,
    samples: Annotated[
        int | None,
        typer.Option(
            "--importance-samples",
            "--samples",
            min=1,
            max=MOST,
            help=f"Importance samples per image, {EVAL.samples} unless told; the published protocols take 5000.",
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, max=MOST, help="Images to draw, at most as many as the split has.")] = EVAL.draws,
    per_class: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST, help=f"Draws, and train images, of a class that classifiers see, {EVAL.per_class} unless told."
        ),
    ] = None,
    sampler: Sampler = EVAL.sampler,
    components: Components = EVAL.components,
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights (npz) of the Inception network, for its Frechet distance.")
    ] = EVAL.inception,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE.yaml", help="Other data to measure on: a config, or its block data.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE.yaml", help="Anomalies to tell from the run's own images: a config.")
    ] = None,
    data_path: DataPath = None,
    checkpoint: Which = "best",
    as_json: Json = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Measure a run on held-out images, by every evaluator that fits. Writes eval/SPLIT.json and per-image values into the run.

    What would take a network more than 1e12 operations (1e14 on a GPU), such as the likelihood of a deep model by importance
    sampling, is named and left out, unless --only, --all, --importance-samples or --per-class asks for it. Counted are
    likelihood, completion, classification, representation, clustering, pursuit and augmentation; the draws of generation and
    translation, restorations and the objective are made whatever they cost.

    Evaluators: objective, reconstruction, likelihood, completion, sparsity, pursuit, codebook, representation, clustering,
    denoising, classification, translation, generation, augmentation. What Ctrl-C interrupts goes on where it stopped.

    With --against, in their place, how well scores of an image tell anomalies from the run's own held-out images: objective,
    likelihood, reconstruction, latent_distance. Writes eval/SPLIT-against-FINGERPRINT.json.

    With --sampler, what is drawn through it: generation, and augmentation where it draws by class. Writes
    eval/SPLIT-by-SAMPLER.json."""
    from aecli.cli.tables import cost, show_metrics
    from aecli.runs import directory
    from aecli.system.progress import Meter, say, tell
    from aecli.verbs.eval_times import told
    from aecli.verbs.evaluate import evaluate
    from aecli.verbs.telling import Watch

    request = EvalRequest(split, names(only), names(skip), draws=draws, inception=inception, everything=everything)
    request = request._replace(sampler=sampler, components=components).with_numbers(samples, per_class)
    request.check()  # a wrong flag is told before a missing run
    run = directory.find(runs_dir, run_name)
    keep_programs(context)
    with Meter() as meter:
        measured = evaluate(run, request, checkpoint, Watch(meter.begin, meter.tell, say), data_path, data, against)
    for note in measured.notes:
        say(f"note: {note}")
    if as_json:
        print_json({name: found.as_json() for name, found in measured.metrics.items()})
    elif measured.metrics:
        show_metrics(run.id, measured.metrics)
    parts = told(measured.seconds)
    say(f"{run.path / 'eval' / f'{measured.name}.json'}: {cost(meter.seconds)}" + (f" ({parts})" if parts else ""))
    if context.find_root().params["debug"]:
        for error in measured.failed.values():
            sys.excepthook(type(error), error, error.__traceback__)
    failures = measured.failures()
    for _, line in failures:
        tell(f"error: {line}")
    if failures:
        tell(f"  help: the numbers of the others are written; --skip {','.join(measured.failed)} leaves these out")
        codes = {code for code, _ in failures}
        raise typer.Exit(codes.pop() if len(codes) == 1 else 1)
