import { describe, expect, it } from '@jest/globals';
import { ConfigError } from '../config.ts';
import { startFaultText } from './start-fault.ts';

const URL = 'postgres://freehold:secret@db.example:5433/market';
const coded = (code: string, message = 'no'): Error => Object.assign(new Error(message), { code });

describe('what a coordinator process says when it cannot start', () => {
  it.each([
    ['nothing that listens', coded('ECONNREFUSED'), /nothing listens at db\.example:5433/],
    ['one that takes no more connections', coded('EAGAIN'), /EAGAIN/],
    ['a wrong password', coded('28P01'), /refused the user or its password/],
    ['no such database', coded('3D000'), /no database 'market'.*createdb/],
    ['an empty one', coded('42P01', 'relation "job" does not exist'), /holds no Freehold schema.*npm start/],
    ['a name of two addresses', new AggregateError([coded('ECONNREFUSED')], ''), /nothing listens/],
    ['an error in an error of the driver', Object.assign(new Error('x'), { driverError: coded('28P01') }), /password/],
  ])('is one line with the variable, without the password, about %s', (_, error, said) => {
    const text = startFaultText(error, URL);
    expect(text).toMatch(said);
    expect(text).toMatch(/^DATABASE_URL: .*postgres:\/\/freehold@db\.example:5433\/market.*correct DATABASE_URL\.$/);
    expect(text).not.toMatch(/secret|\n/);
  });

  it('names the folder of a socket, and leaves what is about files to its stack', () => {
    const absent = Object.assign(coded('ENOENT', 'connect ENOENT /data/pg/.s.PGSQL.5433'), { syscall: 'connect' });
    const closed = Object.assign(coded('EACCES'), { syscall: 'connect' });
    expect(startFaultText(absent, `${URL}?host=%2Fdata%2Fpg`)).toMatch(/nothing listens at \/data\/pg:5433 \(ENOENT\)/);
    expect(startFaultText(closed, `${URL}?host=%2Fdata%2Fpg`)).toMatch(/may not enter \/data\/pg:5433 \(EACCES\)/);
    expect(startFaultText(coded('ENOENT', 'open x'), URL)).toMatch(/open x\n\s+at /);
  });

  it('is what a fault says by itself, and a stack where the cause is not known', () => {
    expect(startFaultText(new ConfigError(['X: missing']), URL)).toContain('X: missing');
    expect(startFaultText(new Error('a bug'), URL)).toMatch(/a bug\n\s+at /);
  });
});
