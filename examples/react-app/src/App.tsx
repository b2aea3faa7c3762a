import { useState } from "react";
import { useTimer } from "./useTimer";

const DISHES = [
  { name: "Soft egg", seconds: 300 },
  { name: "Pasta", seconds: 540 },
  { name: "Rice", seconds: 1080 },
] as const;

/** A kitchen timer: pick a dish, watch it count down. */
export function App() {
  const [dish, setDish] = useState<(typeof DISHES)[number]>(DISHES[0]);
  const { left, running, start, stop } = useTimer(dish.seconds);

  return (
    <main>
      <h1>Kitchen timer</h1>
      <p role="timer" aria-live="off">
        {format(left)}
      </p>
      <select
        aria-label="Dish"
        disabled={running}
        value={dish.name}
        onChange={(event) => setDish(DISHES.find((d) => d.name === event.target.value) ?? DISHES[0])}
      >
        {DISHES.map((d) => (
          <option key={d.name}>{d.name}</option>
        ))}
      </select>
      <button onClick={running ? stop : start}>{running ? "Stop" : "Start"}</button>
      {left === 0 && <p role="alert">{dish.name}: ready!</p>}
    </main>
  );
}

function format(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
