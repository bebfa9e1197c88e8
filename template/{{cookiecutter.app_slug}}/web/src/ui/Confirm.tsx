import { useState } from "react";
import { texts } from "../texts";
import { Button } from "./Button";
import { Dialog } from "./Dialog";

/** Ask before something is lost, and say so if it failed. */
export function Confirm(props: { title: string; hint: string; action: string; run: () => Promise<void>; close: () => void }) {
  const [failed, setFailed] = useState<string | null>(null);
  const [running, setRunning] = useState(false);
  const run = () => {
    setRunning(true);
    props.run().then(props.close, (error: Error) => {
      setRunning(false);
      setFailed(error.message);
    });
  };
  return (
    <Dialog open close={props.close} title={props.title}>
      <p className="text-muted [overflow-wrap:anywhere]">{props.hint}</p>
      {failed && <p role="alert" className="text-sm text-danger">{failed}</p>}
      <div className="flex justify-end gap-2">
        <Button onClick={props.close}>{texts.cancel}</Button>
        <Button variant="danger" disabled={running} onClick={run}>
          {props.action}
        </Button>
      </div>
    </Dialog>
  );
}
