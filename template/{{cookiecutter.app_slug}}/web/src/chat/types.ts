import type { UIMessage } from "ai";
import type { Schemas } from "../api/client";

/** What the service says of an answer, beside its parts. */
export interface Metadata {
  request_id?: string;
  status?: string;
  finish?: string | null;
  created_at?: string;
  usage?: Schemas["TurnUsage"] | null;
  rating?: Schemas["RatingAnswer"] | null;
  citations?: Citation[];
  /** In a group's chat: the member who wrote it, and what they were called. */
  written_by?: string | null;
  author?: string | null;
  error?: { code: string; message: string; request_id: string; retry_after?: number };
}

export type Citation = Schemas["SourceAnswer"];
export type ChatMessage = UIMessage<Metadata>;
