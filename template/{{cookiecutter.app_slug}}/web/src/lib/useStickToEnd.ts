import { useCallback, useEffect, useRef, useState } from "react";

/** Keep the end of a list in sight while it grows, unless the reader has scrolled away from it. */
export function useStickToEnd(content: unknown) {
  const list = useRef<HTMLDivElement>(null);
  const end = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const sticks = useRef(true);
  const toEnd = useCallback(() => {
    sticks.current = true;
    setAtEnd(true);
    const box = list.current;
    if (box) box.scrollTop = box.scrollHeight;
  }, []);
  useEffect(() => {
    const box = list.current;
    if (!box) return;
    let top = box.scrollTop;
    const look = () => {
      const near = box.scrollHeight - box.scrollTop - box.clientHeight < 80;
      // Only a reader scrolls up. Far from the end, but not further up, means that the list has grown meanwhile.
      if (near || box.scrollTop < top) sticks.current = near;
      top = box.scrollTop;
      setAtEnd(near || sticks.current);
    };
    box.addEventListener("scroll", look, { passive: true });
    const resized = new ResizeObserver(() => sticks.current && toEnd());
    resized.observe(box);
    if (box.firstElementChild) resized.observe(box.firstElementChild); // parts that are loaded, and images, come later
    return () => {
      box.removeEventListener("scroll", look);
      resized.disconnect();
    };
  }, [toEnd]);
  useEffect(() => {
    if (sticks.current) toEnd();
  }, [content, toEnd]);
  return { list, end, atEnd, toEnd };
}
