let token = "";

/**
 * Takes the setup token out of the address, where it is the fragment so that
 * it is neither sent nor logged, and removes it from there and from history.
 */
export function takeSetupToken(): void {
  const match = /^#token=([^&]+)/.exec(location.hash);
  if (!match) return;
  try {
    token = decodeURIComponent(match[1]!);
  } catch {
    token = match[1]!;
  }
  history.replaceState(history.state, "", location.pathname + location.search);
}

export const setupToken = (): string => token;
