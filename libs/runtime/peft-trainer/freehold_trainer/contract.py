"""The contract's outer loop: JSON lines on stdin and stdout, one request at a time, ping and cancel at any time."""

import json
import os
import queue
import sys
import threading

from .faults import Fault

VERSION = 1
LINE_BYTES_MAX = 65_536
MESSAGE_CHARS_MAX = 1_024


class Cancelled(Exception):
    """Raised between two passes of a request that was cancelled."""


class Conversation:
    """Reads requests on a thread of its own, so that `ping` and `cancel` are answered while the trainer works."""

    def __init__(self, read, write):
        self._read, self._write = read, write
        self._lock = threading.Lock()
        self._work = queue.Queue()
        self._cancelled = set()
        self._open = set()

    def say(self, answer):
        line = json.dumps(answer, allow_nan=False, separators=(',', ':')).encode() + b'\n'
        with self._lock:
            self._write.write(line)
            self._write.flush()

    def fault(self, request_id, fault):
        answer = {'type': 'error', 'id': request_id, 'code': fault.code}
        self.say({**answer, 'message': fault.message[:MESSAGE_CHARS_MAX], 'retryable': fault.retryable, **fault.where})

    def serve(self, trainer):
        """Answers until the input closes."""
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            request = self._work.get()
            if request is None:
                return
            self._answer(trainer, request)

    def _listen(self):
        while True:
            line = self._read.readline(LINE_BYTES_MAX + 1)
            if not line:
                # The node is gone: what is being computed is for nobody.
                os._exit(0)
            if len(line) > LINE_BYTES_MAX:
                self.fault(None, Fault('bad_request', f'A line is longer than {LINE_BYTES_MAX} bytes.'))
                os._exit(1)
            if line.strip():
                self._take(line)

    def _take(self, line):
        try:
            request = json.loads(line)
            request_id, kind = request['id'], request['type']
            if not isinstance(request_id, int) or request_id < 1:
                raise ValueError('id must be a whole number from 1')
        except (ValueError, KeyError, TypeError) as error:
            self.fault(None, Fault('bad_request', f'Expected one JSON object per line with id and type: {error}'))
            return
        if kind == 'ping':
            self.say({'type': 'pong', 'id': request_id})
        elif kind == 'cancel':
            if request.get('target') in self._open:
                self._cancelled.add(request['target'])
            self.say({'type': 'done', 'id': request_id})
        else:
            self._open.add(request_id)
            self._work.put(request)

    def _answer(self, trainer, request):
        request_id = request['id']

        def breathe():
            if request_id in self._cancelled:
                raise Cancelled

        def say(kind, **content):
            self.say({'type': kind, 'id': request_id, **content})

        try:
            breathe()
            method = {
                'hello': trainer.hello,
                'plan': trainer.plan,
                'run': trainer.run,
                'evaluate': trainer.evaluate,
                'export': trainer.export,
            }.get(request['type'])
            if method is None:
                raise Fault('bad_request', f'No request {request["type"]!r}.')
            method(request, say, breathe)
        except Cancelled:
            self.fault(request_id, Fault('cancelled', 'The request was cancelled.', True))
        except Fault as fault:
            self.fault(request_id, fault)
        except KeyError as error:
            self.fault(request_id, Fault('bad_request', f'The request has no {error}.'))
        except MemoryError:
            self.fault(request_id, Fault('out_of_memory', 'Not enough memory: use shorter examples or a smaller base.', True))
        except Exception as error:  # A bug here must end the request, not the process and what else it holds.
            print(f'{type(error).__name__}: {error}', file=sys.stderr)
            self.fault(request_id, Fault('internal', f'{type(error).__name__}: {error}', True))
        finally:
            self._open.discard(request_id)
            self._cancelled.discard(request_id)


def private_stdout():
    """The real stdout, kept for the contract; whatever libraries print goes to stderr from now on."""
    kept = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return kept
