"""Choose where spans go, as the environment says."""

from __future__ import annotations

import os
import uuid

from ..errors import SettingsError
from .names import APP
from .options import Options
from .outbox import Outbox, RareLog

__all__ = ["outbox"]


def outbox(options: Options, app_id: str, project: str = "") -> Outbox:
    """Return the outbox that ``options`` describe.

    Args:
        app_id: names the process, if ``OTEL_SERVICE_NAME`` does not.
        project: the Google Cloud project that it runs in; "" if it does not run on Cloud Run.

    Raises:
        SettingsError: a package that it takes is not installed.
    """
    send, measure, report, problems = None, None, None, RareLog()
    resource = {**_attributes(app_id, project), **options.resource}
    if options.traces == "console":
        from .console import Console

        send = Console().send
    try:
        if options.traces == "otlp":
            from .otlp_http import SpanSender

            send = SpanSender(options.traces_connection, resource, options.text, problems).send
        if options.metrics != "none":
            from .otlp_metrics import MetricsReport

            metrics = MetricsReport(
                options.metrics, options.metrics_endpoint, resource, options.metrics_every, problems
            )
            measure, report = metrics.measure, metrics.report
    except ImportError as error:
        raise SettingsError(
            f"Telemetry is switched on, and {error.name} is not installed: pip install 'firelaunch[cloud]'."
        ) from None
    return Outbox(
        send,
        options.sampler,
        content=options.content,
        measure=measure,
        report=report,
        queue=options.queue,
        batch=options.batch,
        delay=options.delay,
        problems=problems,
    )


def _attributes(app_id: str, project: str) -> dict[str, str]:
    """Return what this process is, by the conventions for resources.

    Google's receiver takes spans only with ``gcp.project_id``
    (https://cloud.google.com/stackdriver/docs/reference/telemetry/v1.traces).
    """
    attributes = {
        "service.name": os.environ.get("K_SERVICE", app_id),
        "service.instance.id": str(uuid.uuid4()),
        APP: app_id,
    }
    if project:
        attributes |= {
            "service.version": os.environ.get("K_REVISION", ""),
            "gcp.project_id": project,
            "cloud.provider": "gcp",
            "cloud.platform": "gcp_cloud_run",
            "cloud.account.id": project,
        }
    return attributes
