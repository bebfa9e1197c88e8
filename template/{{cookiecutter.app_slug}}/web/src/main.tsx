import { createRoot } from "react-dom/client";
import { App } from "./App";
import { loadConfig } from "./config";
import "./index.css";
import { texts } from "./texts";
import { applyTheme } from "./lib/theme";
import { StartFailed } from "./ui/StartFailed";

applyTheme();
const root = createRoot(document.getElementById("root")!);

async function start() {
  try {
    const config = await loadConfig();
    document.title = config.app.name;
    root.render(<App config={config} />);
  } catch {
    root.render(<StartFailed text={texts.loadFailed} again={start} />);
  }
}

void start();
