import { Link, useRouter, type ErrorComponentProps } from "@tanstack/react-router";

import { Button, buttonClass, Spinner } from "@/ui/controls";
import { Empty, errorText } from "@/ui/display";

export function Pending() {
  return (
    <div className="flex h-full items-center justify-center text-fg-3" role="status" aria-label="Loading">
      <Spinner size={20} />
    </div>
  );
}

export function NotFound() {
  return (
    <main className="h-full">
      <Empty
        icon="search"
        title="There is nothing at this address"
        action={
          <Link to="/" className={buttonClass("primary")}>
            Go to the overview
          </Link>
        }
      />
    </main>
  );
}

/** Shown when a page could not be loaded or drawn. */
export function Crashed({ error, reset }: ErrorComponentProps) {
  const router = useRouter();
  return (
    <main className="h-full">
      <Empty
        icon="warn"
        title="This page could not be shown"
        action={
          <Button
            tone="primary"
            icon="refresh"
            onClick={() => {
              reset();
              void router.invalidate();
            }}
          >
            Try again
          </Button>
        }
      >
        {errorText(error)}
      </Empty>
    </main>
  );
}
