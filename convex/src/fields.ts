/** Reads parsed JSON by hand: a value has the type that was asked for, or the body is refused with a sentence. */

/** The body is not what it should be; the message names the field. */
export class InvalidBody extends Error {}

/** Convex takes at most 8,192 elements; far fewer are of use here. */
const MAX_ELEMENTS = 1_000;

/** The fields of one JSON object. `null` means the same as absence; fields that nobody asks for are ignored. */
export class Fields {
  private constructor(
    private readonly values: Map<string, unknown>,
    private readonly where: string,
  ) {}

  /** `where` is put before the names in messages. */
  static of(value: unknown, where = ""): Fields {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new InvalidBody(`${where || "the body"} must be an object`);
    }
    return new Fields(new Map(Object.entries(value)), where && `${where}.`);
  }

  /** Text in valid Unicode: half a surrogate pair, which Convex refuses, becomes U+FFFD. */
  text(name: string): string | undefined {
    const value = this.read(name, "text", (given) => typeof given === "string");
    return value?.replace(/[\uD800-\uDFFF]/gu, "\uFFFD");
  }

  /** A whole number from 0. */
  whole(name: string): number | undefined {
    return this.read(
      name,
      "a whole number from 0",
      (given): given is number => Number.isSafeInteger(given) && (given as number) >= 0,
    );
  }

  /** One of a few words. */
  word<Word extends string>(name: string, words: readonly Word[]): Word | undefined {
    return this.read(name, `one of ${words.join(", ")}`, (given): given is Word => words.includes(given as Word));
  }

  /** A list; `one` reads each element, and gets a name for it to use in messages. */
  list<T>(name: string, one: (element: unknown, where: string) => T): T[] | undefined {
    const is = (given: unknown): given is unknown[] => Array.isArray(given) && given.length <= MAX_ELEMENTS;
    const elements = this.read(name, `a list of at most ${MAX_ELEMENTS} elements`, is);
    return elements?.map((element, index) => one(element, `${this.where}${name}[${index}]`));
  }

  /** A nested object. */
  object(name: string): Fields | undefined {
    const value = this.json(name);
    return value === undefined ? undefined : Fields.of(value, this.where + name);
  }

  /** Whatever is there. */
  json(name: string): unknown {
    return this.values.get(name) ?? undefined;
  }

  private read<T>(name: string, what: string, is: (given: unknown) => given is T): T | undefined {
    const given = this.json(name);
    if (given === undefined) return undefined;
    if (!is(given)) throw new InvalidBody(`${this.where}${name} must be ${what}`);
    return given;
  }
}

/** `value`, which must be there. `name` is for the message. */
export function required<T>(value: T | undefined, name: string): T {
  if (value === undefined || value === "") throw new InvalidBody(`${name} is missing`);
  return value;
}
