import { AsyncLocalStorage } from 'node:async_hooks';
import { TestEnvironment } from 'jest-environment-node';

/**
 * Node's environment, and at the end of a file no `AsyncLocalStorage` that it used is kept on.
 *
 * Until Node 24 every storage that was ever used is visited at each new promise of the process, for ever, and jest's own
 * runner uses one per file: in a worker that has run sixty files, a test full of promises took five times as long.
 */
export default class ForgetfulEnvironment extends TestEnvironment {
  #forget = () => {};

  /** @override */
  async setup() {
    await super.setup();
    this.#forget = noteStorages();
  }

  /** @override */
  async teardown() {
    this.#forget();
    await super.teardown();
  }
}

/** Notes every storage that is used from now on; what it returns ends the notes and switches them all off. */
export function noteStorages() {
  const used = new Set();
  const own = Object.getOwnPropertyDescriptors(AsyncLocalStorage.prototype);
  for (const name of ['run', 'enterWith']) {
    Object.defineProperty(AsyncLocalStorage.prototype, name, {
      ...own[name],
      value(/** @type {unknown[]} */ ...args) {
        used.add(this);
        return own[name].value.apply(this, args);
      },
    });
  }
  return () => {
    Object.defineProperties(AsyncLocalStorage.prototype, { run: own.run, enterWith: own.enterWith });
    for (const storage of used) storage.disable();
    used.clear();
  };
}
