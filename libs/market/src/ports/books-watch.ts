/** What the doctor found when it last looked. */
export interface DoctorSeen {
  readonly checks: number;
  readonly violations: number;
  /** Findings by check. */
  readonly byCheck: Readonly<Record<string, number>>;
  /** How long ago, by the database's clock. */
  readonly ageMs: number;
}

export interface BooksSeen {
  /** Since when no money leaves; null when it does. */
  readonly payoutsHaltedSince: string | null;
  /** Null before the first look. */
  readonly doctor: DoctorSeen | null;
}

/** Whether the books are right, as last seen: for readiness, gauges and logs. The doctor itself reads everything and takes longer. */
export abstract class BooksWatch {
  abstract seen(): Promise<BooksSeen>;
  abstract note(found: Omit<DoctorSeen, 'ageMs'>): Promise<void>;
}
