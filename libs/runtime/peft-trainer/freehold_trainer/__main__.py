"""`python3 -m freehold_trainer`: one fine-tune on stdin and stdout."""

import sys

from .contract import Conversation, private_stdout


def main():
    # Before anything is imported that might print.
    out = private_stdout()
    from .trainer import PeftTrainer

    Conversation(sys.stdin.buffer, out).serve(PeftTrainer())


if __name__ == '__main__':
    main()
