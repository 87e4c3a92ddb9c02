import { createContext, useContext } from "react";

interface LiveEditor {
  sql: string;
  setSql: (sql: string) => void;
}

/** The editor above, for what stands below it. */
export const LiveEditorContext = createContext<LiveEditor>({ sql: "", setSql: () => {} });
export const useLiveEditor = (): LiveEditor => useContext(LiveEditorContext);
