"""What Amazon ECR's scan says of a pushed image, and whether that keeps it from getting its tag."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from subset_trainer.errors import PlatformError, UserError

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL")
"""Those that a gate can stand at, the worst first; ECR knows two more, for what nobody has judged yet."""
OPEN = "none"
"""Stands for no gate."""
DEFAULT = "CRITICAL"
MINUTES = 20.0
"""Until a scan is no longer waited for."""
MINUTES_TO_BEGIN = 2.0
"""Until an image that ECR knows no scan of is taken for one that it does not scan."""
PAUSE = 5.0
"""Seconds between two looks."""
NAMED = 10
"""Findings that a message names."""
DONE = ("COMPLETE", "ACTIVE")
"""ACTIVE: Amazon Inspector's scan, which goes on as it learns of new vulnerabilities."""
WAITING = ("PENDING", "IN_PROGRESS")


def check(
    ecr: Any, repository: str, digest: str, severity: str = DEFAULT, show: Callable[[str], None] = print
) -> None:
    """Wait for the scan of an image, say what it has found, and refuse findings of a severity or worse.

    Args:
        ecr: a client.
        digest: the image's.
        severity: one of `SEVERITIES`, or `OPEN`: then nothing is asked.

    Raises:
        UserError: there are such findings; names them.
        PlatformError: there is no scan, or it has failed: what is not known is not passed.
    """
    if severity == OPEN:
        show("ECR's scan is not waited for, and nothing that it finds keeps the image from its tag")
        return
    image = f"the image {digest} in the ECR repository {repository!r}"
    pages = _scanned(ecr, {"repositoryName": repository, "imageId": {"imageDigest": digest}}, image, severity)
    counts: Mapping[str, int] = pages[0].get("findingSeverityCounts", {})
    show(f"ECR's scan has found: {_listed(counts)}")
    refused = SEVERITIES[: SEVERITIES.index(severity) + 1]
    if not any(counts.get(kind, 0) for kind in refused):
        return
    found = sorted(
        (SEVERITIES.index(kind), text) for page in pages for kind, text in _findings(page) if kind in refused
    )
    named = ", ".join(text for _, text in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    raise UserError(
        f"ECR's scan of {image} has found {_listed({kind: counts.get(kind, 0) for kind in refused})}: {named}{more}; "
        f"it gets no tag but 'candidate' (take a newer base image or lock, or set --scan-severity, SCAN_SEVERITY in "
        f"buildspec.yml, to another of {', '.join(SEVERITIES)} or {OPEN})"
    )


def _scanned(ecr: Any, wanted: Mapping[str, Any], image: str, severity: str) -> list[dict[str, Any]]:
    """The pages of a scan's findings, once it is done."""
    began = time.monotonic()
    without = f"(--scan-severity {OPEN}, SCAN_SEVERITY={OPEN} in buildspec.yml, does without the scan)"
    while True:
        waited = (time.monotonic() - began) / 60
        try:
            answer = ecr.describe_image_scan_findings(**wanted)
        except ecr.exceptions.ScanNotFoundException as error:
            # The scan on push begins a little later.
            if waited >= MINUTES_TO_BEGIN:
                raise PlatformError(
                    f"ECR knows no scan of {image}: is scan on push switched off for it? It gets no tag but "
                    f"'candidate' {without}"
                ) from error
        else:
            status = answer["imageScanStatus"]
            if status["status"] in DONE:
                break
            if status["status"] not in WAITING:
                reason = " ".join(str(status.get("description", "no reason is given")).split())
                raise PlatformError(
                    f"ECR has not scanned {image} ({status['status']}: {reason}), so that it gets no tag but "
                    f"'candidate' {without}"
                )
        if waited >= MINUTES:
            raise PlatformError(
                f"ECR's scan of {image} has not ended in {MINUTES:g} minutes: push again later, which waits for it "
                f"again {without}"
            )
        time.sleep(PAUSE)
    pages = [answer.get("imageScanFindings", {})]
    while token := answer.get("nextToken"):
        answer = ecr.describe_image_scan_findings(**wanted, nextToken=token)
        pages.append(answer.get("imageScanFindings", {}))
    return pages


def _findings(page: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(severity, the finding in words) of ECR's own scan, or of Amazon Inspector's."""
    for finding in page.get("findings", ()):
        attributes = {
            attribute["key"]: attribute.get("value", "") for attribute in finding.get("attributes", ())
        }
        package = f"{attributes.get('package_name', '')} {attributes.get('package_version', '')}".strip()
        yield finding["severity"], _named(finding.get("name", "unnamed"), package, finding["severity"])
    for finding in page.get("enhancedFindings", ()):
        details = finding.get("packageVulnerabilityDetails", {})
        packages = [
            f"{p.get('name', '')} {p.get('version', '')}".strip()
            for p in details.get("vulnerablePackages", ())
        ]
        name = details.get("vulnerabilityId") or finding.get("title", "unnamed")
        yield finding["severity"], _named(name, " and ".join(packages[:2]), finding["severity"])


def _named(name: str, package: str, severity: str) -> str:
    return f"{name} ({package}, {severity})" if package else f"{name} ({severity})"


def _listed(counts: Mapping[str, int]) -> str:
    known = Counter(counts)
    order = [*SEVERITIES, *sorted(set(known) - set(SEVERITIES))]
    return ", ".join(f"{known[kind]} {kind}" for kind in order if known[kind]) or "nothing"
