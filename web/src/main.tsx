import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";

import { makeQueryClient } from "./query-client";
import { makeRouter } from "./router";
import { takeLinkToken } from "./link-token";
import { Overlays } from "./ui/overlay";
import "./styles.css";

takeLinkToken();
const queryClient = makeQueryClient();
const router = makeRouter(queryClient);

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <Overlays>
        <RouterProvider router={router} />
      </Overlays>
    </QueryClientProvider>
  </StrictMode>,
);
