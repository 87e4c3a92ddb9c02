const base = "/api/v1";

/** One finding about one part of the input, from a problem document. */
export interface ProblemItem {
  message: string;
  location?: string;
}

/** What the server refused, from its RFC 9457 problem document. */
export class ApiError extends Error {
  readonly status: number;
  readonly title: string;
  readonly items: ProblemItem[];

  constructor(status: number, title: string, detail: string, items: ProblemItem[] = []) {
    super(detail || title);
    this.name = "ApiError";
    this.status = status;
    this.title = title;
    this.items = items;
  }
}

export type Params = Record<string, string | number | undefined | null>;

/** A path of the API with its query parameters; empty ones are left out. */
export function apiPath(path: string, params: Params = {}): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "") search.set(key, String(value));
  }
  const text = search.toString();
  return base + path + (text ? `?${text}` : "");
}

async function problemOf(response: Response): Promise<ApiError> {
  const fallback = response.statusText || `HTTP ${response.status}`;
  try {
    const body = (await response.json()) as { title?: string; detail?: string; errors?: ProblemItem[] };
    return new ApiError(response.status, body.title ?? fallback, body.detail ?? "", body.errors ?? []);
  } catch {
    return new ApiError(response.status, fallback, "");
  }
}

async function request<T>(method: string, url: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(url, {
      method,
      signal: signal ?? null,
      credentials: "same-origin",
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch (err) {
    if (err instanceof DOMException && err.name === "AbortError") throw err;
    throw new ApiError(0, "The server cannot be reached", "The server cannot be reached. Is muster serve running?");
  }
  if (!response.ok) throw await problemOf(response);
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

export const api = {
  get: <T>(path: string, params?: Params, signal?: AbortSignal) => request<T>("GET", apiPath(path, params), undefined, signal),
  post: <T>(path: string, body?: unknown, signal?: AbortSignal) => request<T>("POST", apiPath(path), body, signal),
  put: <T>(path: string, body: unknown) => request<T>("PUT", apiPath(path), body),
  delete: <T = void>(path: string) => request<T>("DELETE", apiPath(path)),
};
