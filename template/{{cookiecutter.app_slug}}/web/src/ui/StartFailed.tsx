import { texts } from "../texts";
import { Button } from "./Button";

export function StartFailed({ text, again }: { text: string; again: () => void }) {
  return (
    <div className="flex h-full flex-col items-center justify-center gap-4 p-6">
      <div role="alert">
        <h1>{text}</h1>
      </div>
      <Button variant="primary" onClick={again}>
        {texts.retry}
      </Button>
    </div>
  );
}
