import { useEffect, useState } from "react";
import { useSWRConfig } from "swr";
import { body } from "../api/client";
import { ApiError } from "../api/errors";
import { useChats } from "../lib/chats";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { forgetGuest, keptGuest } from "./guest";
import { useSession } from "./session";

const EVERY = 1000;

/** The account takes over what its user had as a guest. Until that is done, a reload goes on with it. */
export default function MergeGuest() {
  const { api } = useSession();
  const { mutate } = useSWRConfig();
  const { changed } = useChats();
  const [state, setState] = useState<"running" | "done" | Error>("running");
  const [tries, setTries] = useState(0);
  useEffect(() => {
    let left = false;
    const merge = async () => {
      // A repetition gives the same job, so a second tab, or a reload, follows the one that runs.
      let job = await body(api.client.POST("/v1/me/merge", { body: { guest_token: keptGuest() ?? "" } }));
      while (!left && !["succeeded", "dead", "cancelled"].includes(job.state)) {
        await new Promise((wake) => setTimeout(wake, EVERY));
        job = await body(api.client.GET("/v1/jobs/{id}", { params: { path: { id: job.id } } }));
      }
      if (job.state !== "succeeded") throw new Error(job.error?.message);
      forgetGuest();
      await Promise.all([mutate(() => true), changed()]);
      setState("done");
    };
    setState("running");
    merge().catch((error: Error) => {
      if (error instanceof ApiError && [400, 403, 404, 409].includes(error.status)) forgetGuest(); // it will not help to ask again
      if (!left) setState(error);
    });
    return () => {
      left = true;
    };
  }, [api, mutate, tries]);
  if (state === "done") return null;
  const failed = state instanceof Error;
  return (
    <div className="fixed inset-x-0 top-0 z-50 flex justify-center p-2">
      <Notice
        kind={failed ? "danger" : "info"}
        className="border shadow-lg"
        actions={
          failed && (
            <Button size="sm" onClick={() => (keptGuest() ? setTries(tries + 1) : setState("done"))}>
              {keptGuest() ? texts.retry : texts.dismiss}
            </Button>
          )
        }
      >
        {failed ? texts.signIn.mergeFailed(state.message) : texts.signIn.merging}
      </Notice>
    </div>
  );
}
