import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import { sessionQuery, usersQuery } from "@/api/queries";

export type Permission =
  | "alert.write"
  | "carve.download"
  | "carve.run"
  | "event.read"
  | "live.approve"
  | "live.run"
  | "notifier.write"
  | "silence.write"
  | "sink.write"
  | "trigger.write"
  | "user.read"
  | "user.write";

export function useMay(permission: Permission): boolean {
  const { data } = useQuery(sessionQuery);
  return data?.permissions.includes(permission) ?? false;
}

/** All people, for who may see them. */
export const useUsers = () => useQuery({ ...usersQuery, enabled: useMay("user.read") });

/** What only people with a permission see. The server decides by itself; this spares others a refusal. */
export function May({ permission, children }: { permission: Permission; children: ReactNode }) {
  return useMay(permission) ? children : null;
}
