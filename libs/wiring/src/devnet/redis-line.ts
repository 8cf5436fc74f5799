import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

const REDIS_PORT = 6_379;
/** `INFO server` has less than a kilobyte. */
const ANSWER_BYTES_MAX = 64 * 1_024;

/** A few commands to a Redis, one after the other, and its answers as they came (an error begins with `-`). */
export async function ask(url: URL, commands: readonly (readonly string[])[], timeoutMs: number): Promise<string[]> {
  const port = url.port === '' ? REDIS_PORT : Number(url.port);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const socket = url.protocol === 'rediss:' ? connectTls({ host, port, servername: host }) : connect({ host, port });
  const timer = setTimeout(() => socket.destroy(new Error(`no answer came within ${timeoutMs / 1_000} s`)), timeoutMs);
  try {
    const answers: string[] = [];
    for (const command of commands) {
      socket.write(
        `*${command.length}\r\n${command.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`,
      );
      answers.push(await answer(socket));
      if (answers.at(-1)?.startsWith('-') === true) break;
    }
    return answers;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/** One reply: a status or an error line, or a bulk string with its length in front. */
function answer(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = '';
    const done = (end: () => void): void => {
      socket.off('data', onData).off('error', onError).off('close', onClose);
      end();
    };
    const onData = (chunk: Buffer): void => {
      heard += chunk.toString('latin1');
      const line = heard.indexOf('\r\n');
      if (heard.length > ANSWER_BYTES_MAX) return done(() => reject(new Error('what answered is no Redis')));
      if (line < 0) return;
      const length = heard.startsWith('$') ? Number(heard.slice(1, line)) : null;
      if (length === null) return done(() => resolve(heard.slice(0, line)));
      if (heard.length >= line + 2 + length) done(() => resolve(heard.slice(line + 2, line + 2 + length)));
    };
    const onError = (error: Error): void => done(() => reject(error));
    const onClose = (): void =>
      done(() => reject(Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' })));
    socket.on('data', onData).once('error', onError).once('close', onClose);
  });
}
