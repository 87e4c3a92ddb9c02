import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";

import { refreshAlerts } from "@/api/alerts";
import { apiPath } from "@/api/client";

/** However many alerts come, what is shown of them is asked for at most this often, in milliseconds. */
const renewal = 1000;

/**
 * Has what is shown of alerts asked for anew when something happens to one. Only
 * pages about alerts hold the stream: over HTTP/1.1 a browser has six connections
 * for all of its tabs.
 */
export function useAlertStream(): void {
  const client = useQueryClient();
  useEffect(() => {
    let timer: number | undefined;
    const later = () => {
      timer ??= window.setTimeout(() => {
        timer = undefined;
        void refreshAlerts(client);
      }, renewal);
    };
    // The browser opens it again by itself, and tells what it saw last; where it gives
    // up, the queries' own intervals remain.
    const source = new EventSource(apiPath("/alerts/stream"));
    source.addEventListener("alert", later);
    return () => {
      source.close();
      window.clearTimeout(timer);
    };
  }, [client]);
}
