/** Standard Webhooks: is this body signed by one of our secrets, and fresh? Web Crypto only, no dependency. */

/** How far `webhook-timestamp` may be from now, either way, in seconds. */
export const TOLERANCE_S = 300;

const MAX_SIGNATURES = 16;

/** The signature is missing, malformed, stale or made with another secret; the message says which. */
export class SignatureMismatch extends Error {}

/**
 * The secrets in a setting, separated by commas or spaces, each `whsec_` and the base64 of the key.
 *
 * @throws Error if there is none, or one is not base64.
 */
export function readSecrets(setting: string | undefined): ArrayBuffer[] {
  const words = (setting ?? "").split(/[\s,]+/).filter((word) => word !== "");
  const keys = words.map((word) => fromBase64(word.replace(/^whsec_/, "")));
  if (keys.length === 0 || keys.some((key) => key.byteLength === 0)) throw new Error("no usable secret");
  return keys;
}

/**
 * The `webhook-id` of a body that one of `keys` signed, at most five minutes before or after `nowMs`.
 *
 * @throws SignatureMismatch for anything else.
 */
export async function verify(keys: ArrayBuffer[], headers: Headers, body: ArrayBuffer, nowMs: number): Promise<string> {
  const id = headers.get("webhook-id") ?? "";
  const moment = headers.get("webhook-timestamp") ?? "";
  if (!/^[\x21-\x7e]{1,256}$/.test(id) || !/^[0-9]{1,12}$/.test(moment)) {
    throw new SignatureMismatch("webhook-id or webhook-timestamp is missing or malformed");
  }
  if (Math.abs(nowMs / 1000 - Number(moment)) > TOLERANCE_S) {
    throw new SignatureMismatch("webhook-timestamp is too far from now");
  }
  const content = concatenated(new TextEncoder().encode(`${id}.${moment}.`), body);
  for (const signature of signatures(headers.get("webhook-signature") ?? "")) {
    for (const key of keys) {
      if (await fits(key, signature, content)) return id;
    }
  }
  throw new SignatureMismatch("no signature fits");
}

/** The v1 signatures in a header; a few, because each costs work. One that is not base64 fits nothing. */
function signatures(header: string): ArrayBuffer[] {
  const words = header.split(" ").filter((word) => word.startsWith("v1,"));
  return words.slice(0, MAX_SIGNATURES).map((word) => fromBase64(word.slice(3)));
}

/** `crypto.subtle.verify` compares in constant time. */
async function fits(key: ArrayBuffer, signature: ArrayBuffer, content: ArrayBuffer): Promise<boolean> {
  const hmac = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  return await crypto.subtle.verify("HMAC", hmac, signature, content);
}

/** The bytes that `text` stands for; none if it is not base64. */
function fromBase64(text: string): ArrayBuffer {
  try {
    return bytesOf(Array.from(atob(text), (character) => character.charCodeAt(0)));
  } catch {
    return new ArrayBuffer(0);
  }
}

function bytesOf(values: ArrayLike<number>): ArrayBuffer {
  const buffer = new ArrayBuffer(values.length);
  new Uint8Array(buffer).set(values);
  return buffer;
}

function concatenated(first: Uint8Array, second: ArrayBuffer): ArrayBuffer {
  return bytesOf([...first, ...new Uint8Array(second)]);
}
