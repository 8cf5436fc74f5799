import { MultiBar, Presets, type SingleBar } from 'cli-progress';

/** Where people read: bars on a terminal, plain lines otherwise; standard error when standard output is for JSON. */
export class Narrator {
  readonly #out: NodeJS.WriteStream;
  readonly #startMs = performance.now();
  readonly #bars: MultiBar | null;

  constructor(json: boolean) {
    this.#out = json ? process.stderr : process.stdout;
    this.#bars = this.#out.isTTY
      ? new MultiBar(
          {
            format: '  {name} {bar} {value}/{total} {note}',
            hideCursor: true,
            clearOnComplete: false,
            stream: this.#out,
          },
          Presets.shades_grey,
        )
      : null;
  }

  get seconds(): number {
    return (performance.now() - this.#startMs) / 1_000;
  }

  /** A line with the seconds since the start. */
  say(text: string): void {
    const line = `[${this.seconds.toFixed(1).padStart(6)} s] ${text}\n`;
    if (this.#bars === null) this.#out.write(line);
    else this.#bars.log(line);
  }

  print(text: string): void {
    if (this.#bars === null) this.#out.write(`${text}\n`);
    else this.#bars.log(`${text}\n`);
  }

  task(name: string, total: number): Progress {
    return this.#bars === null
      ? new PlainProgress(name, total, (text) => this.say(text))
      : new BarProgress(this.#bars.create(total, 0, { name: name.padEnd(12), note: '' }));
  }

  close(): void {
    this.#bars?.stop();
  }
}

export interface Progress {
  at(value: number, total: number, note?: string): void;
  done(): void;
}

class BarProgress implements Progress {
  readonly #bar: SingleBar;
  constructor(bar: SingleBar) {
    this.#bar = bar;
  }
  at(value: number, total: number, note = ''): void {
    this.#bar.setTotal(total);
    this.#bar.update(value, { note });
  }
  done(): void {
    this.#bar.stop();
  }
}

/** One line whenever a fifth more is done: a log that is read later should not scroll. */
class PlainProgress implements Progress {
  readonly #name: string;
  readonly #say: (text: string) => void;
  #lastFifth = 0;
  constructor(name: string, _total: number, say: (text: string) => void) {
    this.#name = name;
    this.#say = say;
  }
  at(value: number, total: number, note = ''): void {
    const fifth = total === 0 ? 0 : Math.floor((value * 5) / total);
    if (fifth <= this.#lastFifth) return;
    this.#lastFifth = fifth;
    this.#say(`${this.#name}: ${value} of ${total} rows${note === '' ? '' : `, ${note}`}`);
  }
  done(): void {
    // The last line was printed when the last fifth was reached.
  }
}
