import { texts } from "../texts";
import { Fold } from "../ui/Fold";

/** What the model thinks: open while it does, folded away after. */
export function Reasoning({ text, open }: { text: string; open: boolean }) {
  return (
    <Fold title={open ? texts.chat.thinking : texts.chat.thought} open={open}>
      <p className="whitespace-pre-wrap [overflow-wrap:anywhere]">{text}</p>
    </Fold>
  );
}
