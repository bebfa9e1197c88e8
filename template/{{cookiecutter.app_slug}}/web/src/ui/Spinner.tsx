import { LoaderCircle } from "lucide-react";
import { texts } from "../texts";

export function Spinner({ label = texts.loading }: { label?: string }) {
  return (
    <span role="status" className="inline-flex items-center gap-2 text-muted">
      <LoaderCircle aria-hidden className="size-4 animate-spin" />
      <span className="text-sm">{label}</span>
    </span>
  );
}
