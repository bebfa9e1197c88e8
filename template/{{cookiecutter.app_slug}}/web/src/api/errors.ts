/** A refusal by the service, or by the membership function: `{"error": {"code", "message", "request_id"}}`. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;
  /** When trying again may help, as milliseconds since 1970. */
  readonly retryAt: number | null;

  constructor(code: string, message: string, status: number, retryAt: number | null = null) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAt = retryAt;
  }
}

/** Read an error from an answer that is not 2xx. */
export async function readError(answer: Response): Promise<ApiError> {
  const seconds = Number(answer.headers.get("Retry-After") ?? NaN);
  const retryAt = Number.isFinite(seconds) ? Date.now() + seconds * 1000 : null;
  const body: unknown = await answer.json().catch(() => null);
  const error = (body as { error?: { code?: string; message?: string } } | null)?.error;
  return new ApiError(error?.code ?? "unknown", error?.message ?? `HTTP ${answer.status}`, answer.status, retryAt);
}
