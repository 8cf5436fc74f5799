import { serveTrainer } from '../serve-trainer.ts';
import { ReferenceTrainer } from './reference-trainer.ts';

/** The reference trainer as a process: the contract's messages on stdin and stdout. */
serveTrainer(new ReferenceTrainer(), process.stdin, process.stdout, () => process.exit(0));
// The node decides when its trainers end: a Ctrl-C at the terminal reaches the whole group.
process.on('SIGINT', () => {});
