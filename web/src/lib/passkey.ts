import type { PasskeyAnswer, PasskeyQuestion } from "@/api/types";

/** What browsers of the last years have; types of it are not everywhere yet. */
interface Parsers {
  parseCreationOptionsFromJSON(options: unknown): PublicKeyCredentialCreationOptions;
  parseRequestOptionsFromJSON(options: unknown): PublicKeyCredentialRequestOptions;
}

const parsers = (): Parsers | undefined =>
  typeof PublicKeyCredential !== "undefined" && "parseRequestOptionsFromJSON" in PublicKeyCredential
    ? (PublicKeyCredential as unknown as Parsers)
    : undefined;

/** Whether this browser can use passkeys here: it does over https, and at localhost. */
export const passkeysWork = (): boolean => parsers() !== undefined;

const answerOf = (question: PasskeyQuestion, credential: Credential | null): PasskeyAnswer => {
  if (!credential) throw new Error("The browser gave no passkey.");
  return { id: question.id, credential: (credential as unknown as { toJSON(): unknown }).toJSON() };
};

/** Lets the browser ask its person for something; what it refuses is said in words. */
async function asking(work: (p: Parsers) => Promise<Credential | null>): Promise<Credential | null> {
  const p = parsers();
  if (!p) throw new Error("This browser uses no passkeys here. They need https, or localhost.");
  try {
    return await work(p);
  } catch (err) {
    if (err instanceof DOMException && err.name === "InvalidStateError") throw new Error("That key is yours here already.");
    if (err instanceof DOMException) throw new Error("The passkey was not used: it was cancelled, took too long, or does not belong here.");
    throw err;
  }
}

/** Makes a passkey. */
export const makePasskey = async (q: PasskeyQuestion): Promise<PasskeyAnswer> =>
  answerOf(q, await asking((p) => navigator.credentials.create({ publicKey: p.parseCreationOptionsFromJSON(q.options) })));

/** Uses a passkey. */
export const getPasskey = async (q: PasskeyQuestion): Promise<PasskeyAnswer> =>
  answerOf(q, await asking((p) => navigator.credentials.get({ publicKey: p.parseRequestOptionsFromJSON(q.options) })));
