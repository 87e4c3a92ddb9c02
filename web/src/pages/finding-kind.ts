/** A kind of finding in words: kinds are such words already, as crash_loop. */
export const kindName = (kind: string): string => kind.replaceAll("_", " ");
