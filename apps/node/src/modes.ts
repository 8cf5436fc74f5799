/** How a node behaves in a demonstration or a fault test. Anything but honest is said loudly at every start. */
export const MODES = ['honest', 'cheat', 'flapper', 'slow'] as const;
export type Mode = (typeof MODES)[number];

/** How long the slow node sleeps before each row, unless told otherwise. */
export const SLOW_MS_DEFAULT = 1_500;
