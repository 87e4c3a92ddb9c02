let token = "";

/**
 * Takes the token of a link out of the address, where it is the fragment so that
 * it is neither sent nor logged, and removes it from there and from history.
 */
export function takeLinkToken(): void {
  const match = /^#token=([^&]+)/.exec(location.hash);
  if (!match) return;
  try {
    token = decodeURIComponent(match[1]!);
  } catch {
    token = match[1]!;
  }
  history.replaceState(history.state, "", location.pathname + location.search);
}

export const linkToken = (): string => token;
