import { CopyButton } from "./controls";
import { Notice } from "./display";

/** A secret of which the server keeps a hash alone. */
export function ShownOnce({ label, children }: { label: string; children: string }) {
  return (
    <>
      <Notice>Only a hash of it is stored: this is the one time that it is shown.</Notice>
      <div className="flex items-center gap-2">
        <output aria-label={label} className="min-w-0 flex-1 rounded-md border border-line bg-sunken px-3 py-1.5 font-mono text-sm break-all">
          {children}
        </output>
        <CopyButton text={children} size="md" />
      </div>
    </>
  );
}
