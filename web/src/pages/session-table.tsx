import type { SessionInfo } from "@/api/types";
import { Agent } from "@/lib/text";
import { Button } from "@/ui/controls";
import { Ago, Badge } from "@/ui/display";
import { head, line } from "@/ui/section";

/** Where somebody is logged in. Without onEnd none can be ended; the one that asks never. */
export function SessionTable({ sessions, onEnd }: { sessions: SessionInfo[]; onEnd?: ((id: string) => void) | undefined }) {
  return (
    <table className="w-full text-sm" aria-label="Sessions">
      <thead>
        <tr className={head}>
          <th>Program</th>
          <th>Address</th>
          <th>Since</th>
          <th>Last used</th>
          <th>
            <span className="sr-only">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {sessions.map((s) => (
          <tr key={s.id} className={line}>
            <td className="max-w-80 truncate">
              <Agent>{s.agent || (s.kind === "bearer" ? "a program" : "a browser")}</Agent> {s.current && <Badge tone="accent">this one</Badge>}
            </td>
            <td className="font-mono text-xs">{s.address}</td>
            <td className="text-fg-2">
              <Ago time={s.created_at} />
            </td>
            <td className="text-fg-2">
              <Ago time={s.last_seen} />
            </td>
            <td className="text-right">
              {!s.current && onEnd && (
                <Button size="sm" tone="danger" aria-label={`End the session from ${s.address}`} onClick={() => onEnd(s.id)}>
                  End
                </Button>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
