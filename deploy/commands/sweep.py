"""`sweep`: trains at several fractions on SageMaker or in local containers, and compares the runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from deploy.commands import job, options, planning, results
from deploy.commands.declared import AnsweredError, Answering, Command, Option


@dataclass(frozen=True, kw_only=True)
class Given(results.Presentation, planning.Settle, planning.Grid, options.Poll, options.Job, Answering):
    """What `sweep` takes."""

    name: Annotated[str, Option("name of the Experiment")]
    parallel: Annotated[int, Option("jobs at a time", "N", options.count)] = 4


def run(given: Given) -> Any:
    """Run the cells that have no results yet, wait for them, and compare all of them."""
    from deploy.aws.requests import check_name
    from deploy.grid import studies
    from deploy.grid.backend import LONGEST_NAME, Backend, digest, job_name, resumable
    from deploy.grid.course import announced, begun, planned
    from deploy.text import runs

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
    where = Path(given.output) if given.local and given.output else folder / "local"
    backend: Backend
    if given.local:
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
    place = where if given.local else folder
    # Another image, other data or settings are another study.
    studies.begin(place, digest(given.set, given.image_uri, ready.uris), {})
    course = begun(cells, given.tolerance / 100, place, given.all)
    agenda = course.agenda
    jobs = 1 if given.local else given.parallel
    at_a_time = f", {jobs} at a time" if jobs > 1 else ""
    print(f"up to {runs(len(cells))}{at_a_time}: {planned(agenda)}")
    for line in announced(agenda):
        print(line)
    print("how long they take is said once the first one has ended")
    with resumable(agenda):
        replace(course, jobs=jobs, prices=given.prices).run(backend, given.settle)
    ended, lost = agenda.results()
    answer = results.present(
        given, ended, lost, folder, f"Sweep {given.name}", given.tolerance, course.first_seeds
    )
    if lost:
        calls.reported()
        raise AnsweredError(
            f"{len(lost)} of {len(agenda.cells)} runs have no results, first {lost[0].name}: {lost[0].reason}",
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
