import ms from 'ms'

type Event = { name: string; after: string }
type Context = { jobId: string; deadlineMs: number }

/** Greets, and says how many milliseconds a span such as "2 days" has. */
export async function handler(event: Event, context: Context) {
  console.log(`job ${context.jobId} has ${context.deadlineMs - Date.now()} ms left`)
  return { greeting: `Hello, ${event.name}!`, milliseconds: ms(event.after) }
}
