"""`sweep`: trains at several fractions on SageMaker or in local containers, and compares the runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from deploy.commands import job, options, planning, results
from deploy.commands.declared import AnsweredError, Answering, Command, Option


@dataclass(frozen=True, kw_only=True)
class Given(results.Presentation, planning.Grid, options.Poll, options.Job, Answering):
    """What `sweep` takes."""

    name: Annotated[str, Option("name of the Experiment")]
    parallel: Annotated[int, Option("jobs at a time", "N", options.count)] = 4


def run(given: Given) -> Any:
    """Run the cells that have no results yet, wait for them, and compare all of them."""
    from deploy.aws.requests import check_name
    from deploy.grid.agenda import Agenda, judge
    from deploy.grid.backend import LONGEST_NAME, Backend, job_name, resumable, work

    check_name(given.name, LONGEST_NAME)
    given = replace(given, set=planning.tested(given.set, () if given.test is None else ("test",)))
    plan = planning.planned(given, given.set, tested=given.test is not None).renamed(job_name)
    cells = plan.cells
    ready = job.prepare(given)
    for note in plan.notes:
        print(note)
    # SageMaker's SDK takes seconds to import, so errors that do not need it are reported before.
    from deploy.aws import calls
    from deploy.grid.containers import Containers
    from deploy.grid.sagemaker import SageMaker

    folder = options.BUILD / "sweeps" / given.name
    backend: Backend
    if given.local:
        where = Path(given.output) if given.output else folder / "local"
        backend = Containers(given.image_uri, ready.make_here, ready.uris, where)
    else:
        backend = SageMaker(
            given.name,
            given.image_uri,
            ready.make,
            ready.uris,
            ready.session,
            folder / "runs",
            parallel=given.parallel,
            poll=given.poll,
        )
    agenda = Agenda(cells, None if given.all else judge(given.tolerance / 100))
    with resumable(agenda):
        work(backend, agenda)
    if spared := agenda.spared():
        print(f"{len(spared)} of {len(cells)} runs were not needed for the answer (--all runs them)")
    runs, lost = agenda.results()
    answer = results.present(given, runs, lost, folder, f"Sweep {given.name}", given.tolerance)
    if lost:
        calls.reported()
        raise AnsweredError(
            f"{len(lost)} of {len(cells)} runs have no results, first {lost[0].name}: {lost[0].reason}",
            answer,
        )
    return answer


COMMANDS = (
    Command(
        "sweep",
        run,
        Given,
        "Train at several fractions and compare: on SageMaker, each job a Run of one Experiment, or with --local in "
        "containers on this machine. The same command resumes where it was interrupted.",
        (
            "sweep --name a --image-uri $IMAGE --role me --training s3://abc",
            "sweep --local --name a --image-uri my-image --training photos",
        ),
    ),
)
