import { Component, type ReactNode } from "react";
import { texts } from "../texts";
import { StartFailed } from "./StartFailed";

/** Show that something failed in place of what did, as a part of the page that could not be loaded. */
export class Boundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  render() {
    if (!this.state.failed) return this.props.children;
    return <StartFailed text={texts.loadFailed} again={() => location.reload()} />;
  }
}
