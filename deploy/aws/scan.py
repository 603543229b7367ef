"""Waits for Amazon ECR's scan of a pushed image, and decides whether its findings block the image's tag."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from subset_trainer.errors import PlatformError, UserError

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL")
"""Severities that can be set as the threshold, worst first. ECR has two more, for findings without a severity yet."""
OPEN = "none"
"""Set in place of a severity: no finding blocks the tag."""
DEFAULT = "CRITICAL"
MINUTES = 20.0
"""Time limit of a scan."""
MINUTES_TO_BEGIN = 2.0
"""Time limit for a scan to begin. After that the image is assumed not to be scanned."""
PAUSE = 5.0
"""Seconds between two queries."""
NAMED = 10
"""Largest number of findings that a message names."""
DONE = ("COMPLETE", "ACTIVE")
"""ACTIVE is the status of Amazon Inspector's scan, which continues as new vulnerabilities become known."""
WAITING = ("PENDING", "IN_PROGRESS")


def check(
    ecr: Any, repository: str, digest: str, severity: str = DEFAULT, show: Callable[[str], None] = print
) -> None:
    """Wait for the scan of an image, show its findings, and refuse findings of a severity or worse.

    Args:
        ecr: a client.
        repository: name of the ECR repository.
        digest: of the image.
        severity: one of `SEVERITIES`, or `OPEN`, which does not wait for the scan.
        show: called with each line of output.

    Raises:
        UserError: the scan has such findings; the message names them.
        PlatformError: there is no scan, it failed, or it did not end in time. An unscanned image is not accepted.
    """
    if severity == OPEN:
        show("not waiting for ECR's scan: no finding blocks the image's tag")
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
    """Wait until a scan is done; return the pages of its findings."""
    began = time.monotonic()
    without = f"(to skip the scan: --scan-severity {OPEN}, or SCAN_SEVERITY={OPEN} in buildspec.yml)"
    while True:
        waited = (time.monotonic() - began) / 60
        try:
            answer = ecr.describe_image_scan_findings(**wanted)
        except ecr.exceptions.ScanNotFoundException as error:
            # The scan begins a little after the push.
            if waited >= MINUTES_TO_BEGIN:
                raise PlatformError(
                    f"ECR has no scan of {image}: is scan on push turned off? It gets no tag but "
                    f"'candidate' {without}"
                ) from error
        else:
            status = answer["imageScanStatus"]
            if status["status"] in DONE:
                break
            if status["status"] not in WAITING:
                reason = " ".join(str(status.get("description", "no reason is given")).split())
                raise PlatformError(
                    f"ECR has not scanned {image} ({status['status']}: {reason}), so it gets no tag but "
                    f"'candidate' {without}"
                )
        if waited >= MINUTES:
            raise PlatformError(
                f"ECR's scan of {image} has not ended in {MINUTES:g} minutes: push again later to wait for it "
                f"again {without}"
            )
        time.sleep(PAUSE)
    pages = [answer.get("imageScanFindings", {})]
    while token := answer.get("nextToken"):
        answer = ecr.describe_image_scan_findings(**wanted, nextToken=token)
        pages.append(answer.get("imageScanFindings", {}))
    return pages


def _findings(page: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (severity, text) of each finding of ECR's own scan or of Amazon Inspector's."""
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
