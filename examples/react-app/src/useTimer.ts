import { useEffect, useState } from "react";

/** Counts `seconds` down to zero while running; a new value of `seconds` starts over. */
export function useTimer(seconds: number) {
  const [left, setLeft] = useState(seconds);
  const [running, setRunning] = useState(false);

  useEffect(() => {
    setLeft(seconds);
    setRunning(false);
  }, [seconds]);

  useEffect(() => {
    if (!running) return;
    if (left === 0) {
      setRunning(false);
      return;
    }
    const tick = setTimeout(() => setLeft(left - 1), 1000);
    return () => clearTimeout(tick);
  }, [running, left]);

  return {
    left,
    running,
    start: () => {
      setLeft(seconds);
      setRunning(true);
    },
    stop: () => setRunning(false),
  };
}
