"""The command ``edgelm``: parse, call, format. Everything heavy is imported by the command that
needs it, so that help is instant."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from controller import __version__
from controller.domain.errors import EdgelmError, InputError

if TYPE_CHECKING:
    from controller.agency import Access
    from controller.experiments.grid import Grid
    from controller.experiments.runner import Tally

FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130

app = typer.Typer(
    help="Compare strategies that serve large models on an edge cluster.",
    epilog="Begin with: edgelm run paper",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
trace_app = typer.Typer(
    help="Turn traces of real systems into request files.", no_args_is_help=True
)
app.add_typer(trace_app, name="trace")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def main() -> None:
    """Run the command; errors are one line, with the exit code of their kind."""
    try:
        app()
    except InputError as error:
        typer.echo(f"edgelm: {error}", err=True)
        sys.exit(BAD_INPUT)
    except EdgelmError as error:
        typer.echo(f"edgelm: {error}", err=True)
        sys.exit(FAILED)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgelm {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None: ...


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is no whole number, 1 or more")
    return int(text)


def _number_of(what: str) -> Any:
    return typer.Option(metavar="N", parser=_count, help=what)


def _instead(what: str) -> Any:
    return typer.Option(metavar="NAME,...", help=f"{what} instead of the campaign's.")


@app.command()
def run(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Shipped name (edgelm list) or file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results.  [default: results/CAMPAIGN]")
    ] = None,
    jobs: Annotated[int | None, _number_of("Runs at once.  [default: one per core]")] = None,
    strategy: Annotated[str | None, _instead("Strategies ('all': every one)")] = None,
    seeds: Annotated[int | None, _number_of("How many seeds: 0, 1, ...")] = None,
    epochs: Annotated[int | None, _number_of("Epochs of a run.")] = None,
    testbed: Annotated[str | None, _instead("Testbeds, names or files,")] = None,
    profile: Annotated[str | None, _instead("Profiles, names or files,")] = None,
    workload: Annotated[str | None, _instead("Workloads, names or files,")] = None,
    load: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="Loads; 1 is the workload's own, 0.5 half of it."),
    ] = None,
    reasoner: Annotated[
        str | None,
        typer.Option(
            metavar="WHO,...",
            help="Who answers agents: reference (an optimiser), openai, a server's URL, or "
            "faulty:KIND=RATE.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its model, or planner=A,scheduler=B,deployer=C."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of its replies.")] = None,
    reasoning_effort: Annotated[
        str | None, typer.Option(metavar="EFFORT", help="minimal, low, medium or high.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="Of agents: off, advise, approve or apply.")
    ] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option(metavar="N", min=0.1, help="Limit for a reasoner elsewhere.")
    ] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option(metavar="N", min=0.1, help="Limit for a reasoner elsewhere.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What models cost, beside the shipped list.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Run a campaign, or what is left of it.

    A finished run is never made again: after a crash, Ctrl-C or a full disk, give the same command.

    \b
    Examples:
      edgelm run paper
      edgelm run paper --strategy RF,SOLVER --seeds 3 --epochs 5 --out results/quick
      edgelm run load-sweep --load 0.5,1,1.5 --jobs 4
      edgelm run my/campaign.yaml --json
      edgelm run paper --strategy MA --seeds 1 --epochs 2 --reasoner openai
      edgelm run paper --strategy MA --reasoner http://localhost:8000/v1 --model qwen3
    """
    from controller.agency import Access
    from controller.bootstrap import check_reasoners, resolve
    from controller.experiments.campaign import Overrides

    changes = Overrides(
        strategies=_listed(strategy),
        seeds=seeds,
        epochs=epochs,
        testbeds=_listed(testbed),
        profiles=_listed(profile),
        workloads=_listed(workload),
        loads=_numbers("--load", load),
        reasoners=_reasoners(reasoner, model, temperature, reasoning_effort),
    )
    if mode == "approve" and not sys.stdin.isatty():
        raise InputError(
            "--mode", "needs a person at a terminal", value=mode,
            remedy="run it in a terminal, or give api.simulate an approver",
        )  # fmt: skip
    grid = resolve(campaign, changes, mode)
    root = out or Path("results") / grid.campaign.name
    at_once = min(jobs or _cores(), len(grid.cells))
    access = Access(
        requests_per_minute and requests_per_minute / at_once,
        tokens_per_minute and tokens_per_minute / at_once,
        str(prices) if prices else None,
    )
    for who, notes in check_reasoners(grid, access).items():
        for note in notes:
            typer.echo(f"{who}: {note}", err=True)
    tally = _run_grid(grid, root, at_once, access)
    page = _report(root) if report and tally.done else None
    _show_results(root, tally, page, as_json=as_json)
    if not tally.complete:
        raise typer.Exit(FAILED)


def _run_grid(grid: Grid, root: Path, jobs: int, access: Access) -> Tally:
    from controller.bootstrap import twin_engine
    from controller.experiments.progress import fitting
    from controller.experiments.runner import run_grid

    try:
        return run_grid(grid, root, twin_engine(access), jobs, fitting())
    except KeyboardInterrupt:
        again = shlex.join(["edgelm", *sys.argv[1:]])
        typer.echo(f"\nInterrupted. Finished runs are kept; go on with:\n  {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _report(root: Path) -> Path:
    from controller.experiments.manifest import read_manifest
    from controller.experiments.report import write_report

    read_manifest(root)  # refuses a folder of another version
    return write_report(root)


def _show_results(root: Path, tally: Tally, page: Path | None, *, as_json: bool) -> None:
    from controller.experiments.standing import print_table, standings

    found = standings(root)
    if as_json:
        document = {
            "folder": str(root),
            "report": str(page) if page else None,
            "runs": tally.total,
            "done": tally.done,
            "failed": dict(tally.errors),
            "strategies": [standing.document() for standing in found],
        }
        typer.echo(json.dumps(document, indent=1))
        return
    if found:
        print_table(found)
    for run_id, error in tally.errors.items():
        typer.echo(f"failed {run_id}: {error} (more in {root}/failures/{run_id}.txt)", err=True)
    typer.echo(f"{tally.done} of {tally.total} runs are done, {tally.made} of them now, in {root}")
    if page:
        typer.echo(f"report: {page}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A campaign's folder.")],
    as_json: AsJson = False,
) -> None:
    """Write a campaign's report.

    One HTML page, figures and tables; of an unfinished campaign too.

    \b
    Examples:
      edgelm report results/paper
    """
    page = _report(folder)
    typer.echo(json.dumps({"report": str(page)}) if as_json else f"report: {page}")


@app.command("list")
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help="strategies, testbeds, profiles, workloads or campaigns."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what has a name and can be given by it.

    \b
    Examples:
      edgelm list
      edgelm list workloads --json
    """
    from controller.bootstrap import catalog

    names = catalog()
    if kind is not None and kind not in names:
        raise InputError(
            "list", "no such kind", value=kind, remedy=f"choose one of {', '.join(names)}"
        )
    chosen = {kind: names[kind]} if kind else names
    if as_json:
        typer.echo(json.dumps(chosen, indent=1, ensure_ascii=False))
        return
    for title, entries in chosen.items():
        typer.echo(f"{title}\n{_aligned(entries)}\n")


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="YAML, JSON or request files.")
    ],
) -> None:
    """Check input files of any kind.

    Testbeds, profiles, workloads, requests; campaigns with all that they name.

    \b
    Examples:
      edgelm validate inventory/paper.yaml my/campaign.yaml
    """
    from controller.bootstrap import STRATEGY_BOOK
    from controller.experiments.files import check_file

    wrong = 0
    for path in files:
        try:
            kind, content = check_file(path, STRATEGY_BOOK)
        except InputError as error:
            wrong += 1
            typer.echo(f"edgelm: {error}", err=True)
        else:
            typer.echo(f"{path}: good {kind} ({content})")
    if wrong:
        raise typer.Exit(BAD_INPUT)


@app.command()
def schema(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="testbed, profile, workload, campaign, prices or experiment."
        ),
    ],
) -> None:
    """Print the JSON Schema of a kind of file.

    \b
    Examples:
      edgelm schema campaign > campaign.schema.json
    """
    from controller.experiments.files import json_schema

    typer.echo(json.dumps(json_schema(kind), indent=1, ensure_ascii=False))


@app.command()
def bench(as_json: AsJson = False) -> None:
    """Measure the twin, the solver and the agents on this machine.

    Takes about two minutes; the machine should have nothing else to do.

    \b
    Examples:
      edgelm bench
      edgelm bench --json > bench.json
    """
    from controller import strategies
    from controller.experiments.bench.suite import report as text_of
    from controller.experiments.bench.suite import run_bench
    from controller.reasoner.answers import answer

    figures = run_bench(strategies.build, answer, lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(figures, indent=1) if as_json else text_of(figures))


@app.command()
def replay(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run with agents, CAMPAIGN/runs/ID.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make a run again from its transcript, without any model, and compare.

    \b
    Examples:
      edgelm replay results/paper/runs/0123456789ab
    """
    from controller.bootstrap import replay as again
    from controller.experiments.replay import compare

    found = compare(run, again(run))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for name, same in found.items():
            typer.echo(f"{name}: {'same' if same else 'DIFFERENT'}")
    if not all(found.values()):
        raise typer.Exit(FAILED)


@app.command("reasoner")
def serve_reasoner(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8765,
    faults: Annotated[
        str, typer.Option(metavar="KIND=RATE,...", help="Spoil replies, for tests.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
    first_token_s: Annotated[float, typer.Option(help="Declared time to the first token.")] = 0.4,
    token_s: Annotated[float, typer.Option(help="Declared time per token.")] = 0.01,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Serve the reference reasoner.

    It speaks OpenAI's chat completions and answers with an optimiser; it is no language model.

    \b
    Examples:
      edgelm reasoner
      edgelm run paper --strategy MA --reasoner http://127.0.0.1:8765/v1 --model edgelm-reference
    """
    from controller.reasoner.completions import Latency
    from controller.reasoner.faults import parse_faults
    from controller.reasoner.server import serve

    def announce(url: str) -> None:
        typer.echo(url if with_parent else f"Serving {url} (Ctrl-C ends it)")
        sys.stdout.flush()

    latency = Latency(first_token_s, token_s)
    serve(host, port, latency, parse_faults(faults, seed), announce, with_parent=with_parent)


@trace_app.command("import")
def import_trace(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="azure or servegen.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The trace: a file, or ServeGen's folder.")
    ],
    out: Annotated[Path, typer.Option(help="Request file to write.")],
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Option of the importer, repeatable."),
    ] = None,
) -> None:
    """Turn a trace into a request file; how it was mapped and clipped is written in its head.

    \b
    Examples:
      edgelm trace import azure AzureLLMInferenceTrace_conv.csv --out conv.csv
      edgelm trace import servegen mm-image --out images.csv --set lm=LM3 --set end_s=3600
    """
    from controller.bootstrap import import_requests

    count, seconds = import_requests(kind, source, out, options or [])
    typer.echo(f"{out}: {count} requests over {seconds:g} s")


@trace_app.command("merge")
def merge_traces(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Request files.")],
    out: Annotated[Path, typer.Option(help="Request file to write.")],
) -> None:
    """Merge request files that run side by side, cut to the shortest.

    \b
    Examples:
      edgelm trace merge conv.csv images.csv --out both.csv
    """
    from controller.workloads.trace import merge, read_trace, write_trace

    merged = merge([read_trace(path) for path in files])
    write_trace(merged, out)
    typer.echo(f"{out}: {len(merged)} requests over {merged.duration_s:g} s")


def _aligned(entries: dict[str, str]) -> str:
    """Names and their sentences in two columns, as wide as the terminal."""
    indent = 4 + max((len(name) for name in entries), default=0)
    room = max(40, shutil.get_terminal_size().columns - indent)
    return "\n".join(
        f"  {name:{indent - 4}}  " + f"\n{'':{indent}}".join(textwrap.wrap(sentence, room))
        for name, sentence in entries.items()
    )


def _listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            option, "is no list of numbers", value=text, remedy="write it like 0.5,1"
        ) from error


def _reasoners(
    who: str | None, model: str | None, temperature: float | None, effort: str | None
) -> tuple[dict[str, Any], ...] | None:
    """What the command line says of reasoners; nothing if it does not say who."""
    from controller.experiments.reasoning import REFERENCE, spelt

    changes: dict[str, Any] = {"temperature": temperature, "reasoning_effort": effort}
    changes = {name: value for name, value in changes.items() if value is not None}
    if model is not None:
        changes["models"] = _models(model)
    if who is None:
        return (spelt(REFERENCE, changes),) if changes else None
    return tuple(spelt(one, changes) for one in _reasoner_list(who))


def _reasoner_list(text: str) -> list[str]:
    """``reference,faulty:slow=0.1,drop=0.1,openai``: a part that names no one belongs to the
    faults before it."""
    found: list[str] = []
    for part in text.split(","):
        if found and found[-1].startswith("faulty:") and "=" in part and ":" not in part:
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    return found


def _models(text: str) -> dict[str, str]:
    tiers = ("planner", "scheduler", "deployer")
    if "=" not in text:
        return dict.fromkeys(tiers, text)
    named = dict(part.strip().partition("=")[::2] for part in text.split(","))
    if sorted(named) != sorted(tiers):
        raise InputError(
            "--model", "must name a model for each tier", value=text,
            remedy="write one name, or planner=A,scheduler=B,deployer=C",
        )  # fmt: skip
    return named


def _cores() -> int:
    """Cores that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


if __name__ == "__main__":
    main()
