import type { ReactNode } from "react";

import { ApiError } from "@/api/client";
import { Agent } from "@/lib/text";
import { Card, Empty, ErrorNote, Loading } from "./display";

/** A card with a table, or with what is in its place. */
export function Section<T>({ title, query, what, empty, actions, children }: {
  title: string;
  actions?: ReactNode;
  query: { data: T[] | undefined; error: Error | null; refetch: () => Promise<unknown> };
  what: string;
  empty: ReactNode;
  children: (list: T[]) => ReactNode;
}) {
  const { data, error, refetch } = query;
  return (
    <Card title={title} flush actions={actions}>
      {error instanceof ApiError && error.status === 403 ? (
        <Empty icon="secrets" title={`${what} are not for you to see`}>
          <Agent>{error.message}</Agent>
        </Empty>
      ) : error && !data ? (
        <div className="p-4">
          <ErrorNote error={error} title={`${what} could not be loaded`} onRetry={() => void refetch()} />
        </div>
      ) : !data ? (
        <Loading lines={3} />
      ) : data.length === 0 ? (
        empty
      ) : (
        <div className="overflow-x-auto rounded-b-lg">{children(data)}</div>
      )}
    </Card>
  );
}

/** Classes of a table's head and lines. */
export const head = "h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-4 [&>th]:font-medium [&>th]:whitespace-nowrap";
export const line = "h-11 border-b border-line/70 last:border-0 hover:bg-hover [&>td]:px-4 [&>td]:py-1";
