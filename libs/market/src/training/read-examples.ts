import {
  LINE_BYTES_MAX,
  parseTrainingLine,
  printable,
  TRAINING_BYTES_MAX,
  TRAINING_EXAMPLES_MAX,
  TRAINING_EXAMPLES_MIN,
} from '@freehold/protocol';
import { inputLines } from '../input-lines.ts';
import { fileObject } from '../ports/file-store.ts';
import type { BatchFault } from '../ports/job-store.ts';
import { ObjectMissing, type ObjectStore } from '../ports/object-store.ts';

/** A requester mends a hundred lines, or the program that wrote them. */
const FAULTS_MAX = 100;
const FAULT_CHARS_MAX = 1_000;

export interface Examples {
  readonly examples: number;
  /** Text of all messages: an upper bound of their tokens, templates aside. */
  readonly textBytes: number;
  readonly messages: number;
  readonly faults: readonly BatchFault[];
}

/** Reads a file of training examples once, line by line. `param` is what the request calls the file. */
export async function readExamples(
  objects: ObjectStore,
  fileId: string,
  param: 'training_file' | 'validation_file' | 'metadata.evaluation_file',
): Promise<Examples> {
  const faults: BatchFault[] = [];
  const fault = (code: string, message: string, line: number | null): void => {
    if (faults.length < FAULTS_MAX) faults.push({ code, message: printable(message, FAULT_CHARS_MAX), param, line });
  };
  const sum = { examples: 0, textBytes: 0, messages: 0 };
  const done = (): Examples => ({ ...sum, faults });
  const size = await objects.size(fileObject(fileId));
  if (size === null) {
    fault('file_missing', `The file of ${param} is not there any more: upload it again.`, null);
    return done();
  }
  if (size > TRAINING_BYTES_MAX) {
    fault('file_too_large', `The file has ${size} bytes: at most ${TRAINING_BYTES_MAX} are read.`, null);
    return done();
  }
  try {
    for await (const line of inputLines(objects.read(fileObject(fileId)), LINE_BYTES_MAX)) {
      if (line.fault === 'too-long') {
        fault('line_too_long', `This line has ${line.length} bytes: at most ${LINE_BYTES_MAX} are read.`, line.line);
      } else if (line.text === null) {
        fault('invalid_encoding', 'This line is not valid UTF-8.', line.line);
      } else {
        const parsed = parseTrainingLine(line.text);
        if (!parsed.ok) fault(parsed.problem.code, parsed.problem.message, line.line);
        else {
          sum.examples += 1;
          sum.textBytes += parsed.value.textBytes;
          sum.messages += parsed.value.messages.length;
        }
      }
      if (faults.length >= FAULTS_MAX) return done();
      if (sum.examples > TRAINING_EXAMPLES_MAX) {
        fault('too_many_examples', `The file has more than ${TRAINING_EXAMPLES_MAX} examples: split it.`, line.line);
        return done();
      }
    }
  } catch (error) {
    if (!(error instanceof ObjectMissing)) throw error;
    fault('file_missing', `The file of ${param} is not there any more: upload it again.`, null);
    return done();
  }
  if (faults.length > 0) return done();
  if (sum.examples === 0) fault('empty_file', 'The file is empty: expected one chat per line.', null);
  else if (param === 'training_file' && sum.examples < TRAINING_EXAMPLES_MIN)
    fault(
      'too_few_examples',
      `The file has ${sum.examples} examples: expected at least ${TRAINING_EXAMPLES_MIN}.`,
      null,
    );
  return done();
}
