"""Vertex AI's own clients (``google.cloud.aiplatform_v1``): indexes, their endpoints, and embeddings.

They are imported for the first call, or by :meth:`VertexClients.warm` during the first request. The import takes most
of a second, which no start should wait for. The clients of one host share one channel. ``google.cloud.aiplatform``
itself is never imported, because it takes twice as long and 186 MB. docs/adr/0027 has the figures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ..llm.failures import bounded
from .google_calls import SCOPE, GoogleError, patiently

if TYPE_CHECKING:
    import grpc
    from google.cloud import aiplatform_v1

__all__ = ["VertexClients"]

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Cloud Run's network drops connections that are silent for minutes, without telling either end.
    ("grpc.keepalive_time_ms", 60_000),
)
"""250 vectors of 3,072 dimensions exceed gRPC's default limit of 4 MiB."""

Answer = TypeVar("Answer")


class VertexClients:
    """Clients of one host, created at their first use. May be used from many threads.

    Args:
        host: such as "europe-west1-aiplatform.googleapis.com", or an index endpoint's public domain.
        credentials: google-auth credentials; by default the environment's own (on Cloud Run, the service account's).
        secured: makes channel credentials other than TLS, for a server on this machine.
    """

    def __init__(
        self, host: str, credentials: Any = None, secured: Callable[[], grpc.ChannelCredentials] | None = None
    ) -> None:
        self._host = host
        self._credentials = credentials
        self._secured = secured
        self._lock = threading.RLock()

    @cached_property
    def indexes(self) -> aiplatform_v1.IndexServiceClient:
        """The client that writes and removes datapoints."""
        from google.cloud import aiplatform_v1 as vertex
        from google.cloud.aiplatform_v1.services.index_service.transports.grpc import IndexServiceGrpcTransport

        return vertex.IndexServiceClient(transport=IndexServiceGrpcTransport(channel=self._channel))

    @cached_property
    def matches(self) -> aiplatform_v1.MatchServiceClient:
        """The client that finds neighbours."""
        from google.cloud import aiplatform_v1 as vertex
        from google.cloud.aiplatform_v1.services.match_service.transports.grpc import MatchServiceGrpcTransport

        return vertex.MatchServiceClient(transport=MatchServiceGrpcTransport(channel=self._channel))

    @cached_property
    def predictions(self) -> aiplatform_v1.PredictionServiceClient:
        """The client that makes embeddings."""
        from google.cloud import aiplatform_v1 as vertex
        from google.cloud.aiplatform_v1.services.prediction_service.transports.grpc import (
            PredictionServiceGrpcTransport,
        )

        return vertex.PredictionServiceClient(transport=PredictionServiceGrpcTransport(channel=self._channel))

    @cached_property
    def _channel(self) -> grpc.Channel:
        with self._lock:
            if "_channel" in self.__dict__:
                opened: grpc.Channel = self.__dict__["_channel"]
                return opened
            import google.auth
            from google.auth.transport.grpc import secure_authorized_channel
            from google.auth.transport.requests import Request

            credentials = self._credentials
            if credentials is None:
                credentials, _ = google.auth.default(scopes=[SCOPE])
            target = self._host if ":" in self._host else f"{self._host}:443"
            secured = self._secured() if self._secured else None
            channel: grpc.Channel = secure_authorized_channel(  # type: ignore[no-untyped-call]
                credentials, Request(), target, ssl_credentials=secured, options=_OPTIONS
            )
            return channel

    def call(self, make: Callable[[VertexClients], Callable[..., Answer]], request: Any, seconds: float) -> Answer:
        """Make one call, once.

        Args:
            make: returns the client's method, such as ``lambda clients: clients.predictions.predict``.

        Raises:
            GoogleError: the call failed.
        """
        from google.api_core import exceptions as google
        from google.auth.exceptions import GoogleAuthError

        try:
            return make(self)(request=request, timeout=seconds, retry=None)
        except GoogleAuthError as error:
            raise GoogleError(401, f"no Google credentials: {error}") from error
        except google.GoogleAPICallError as error:
            raise GoogleError(int(error.code or 0), str(error.message)[:500], _retry_after(error)) from error

    def call_patiently(
        self, make: Callable[[VertexClients], Callable[..., Answer]], request: Any, seconds: float
    ) -> Answer:
        """Call and retry within ``seconds`` while another try may help. Only for calls that may arrive twice."""
        return patiently(lambda left: self.call(make, request, left), seconds)

    def warm(self) -> None:
        """Import what calls need, and open the channel. A failure shows at the first use."""
        try:
            _ = self.predictions
        except Exception:
            return

    def close(self) -> None:
        """Close the channel."""
        if "_channel" in self.__dict__:
            self._channel.close()


def _retry_after(error: Any) -> float | None:
    delays = [detail.retry_delay for detail in error.details or () if hasattr(detail, "retry_delay")]
    return bounded(delays[0].seconds + delays[0].nanos / 1e9) if delays else None
