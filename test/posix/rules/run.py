# Runs the rules in a folder of any file system and says of each whether it holds, one line a rule:
#
#   ok [root] rename: a file takes the place of another
#   not ok [user] rename: ... -- got EPERM wanted EACCES from ...
#
# Usage: run.py FOLDER [--who root|user] [--only TEXT] [--list] GROUP...
#
# As root; rules of `user` also as kit.USER in his groups, where root has no access.
#
# A group is a module of this folder. Always true: each rule has a process and a folder of its own, and an
# end: one that hangs is ended and has not held.

import argparse
import importlib
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import kit  # noqa: E402


def run_rule(rule, who, folder):
    """@returns None, or what went wrong"""
    os.mkdir(folder)
    if who == 'user' and os.geteuid() == 0:
        os.chown(folder, kit.USER, kit.USER)
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b''
        try:
            os.close(out)
            os.setpgid(0, 0)
            signal.alarm(rule.seconds)
            os.umask(0o022)
            os.chdir(folder)
            if who == 'user' and os.geteuid() == 0:
                kit.become(kit.USER)
            rule.body()
        except BaseException as error:
            kind = '' if isinstance(error, AssertionError) else f'{type(error).__name__}: '
            said = os.fsencode((kind + str(error)).replace('\n', ' '))[:4000] or b'failed'
        os.write(into, said)
        os._exit(0)
    os.close(into)
    with os.fdopen(out, 'rb') as file:
        said = os.fsdecode(file.read())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:
        said = f'ended by signal {-status}'
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
    return said or None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('folder')
    parser.add_argument('--who', choices=['root', 'user'])
    parser.add_argument('--only', default='')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('groups', nargs='+')
    args = parser.parse_args()
    top = os.path.abspath(args.folder)
    number = 0
    for group in args.groups:
        before = len(kit.RULES)
        importlib.import_module(group)
        for rule in kit.RULES[before:]:
            for who in {'root': ['root'], 'user': ['user'], 'anyone': ['root', 'user']}[rule.who]:
                name = f'[{who}] {rule.name}'
                if (args.who and who != args.who) or args.only not in name:
                    continue
                if args.list:
                    print(name)
                    continue
                number += 1
                folder = f'{top}/{group}-{number}'
                failure = run_rule(rule, who, folder)
                print(f'ok {name}' if failure is None else f'not ok {name} -- {failure}', flush=True)
                clear(folder)


def clear(folder):
    """Unlocks what a rule froze, and removes it."""
    from ioctls import set_flags
    for at, directories, files in os.walk(folder):
        for name in directories + files:
            if not os.path.islink(f'{at}/{name}') and (os.path.isfile(f'{at}/{name}') or name in directories):
                try:
                    set_flags(f'{at}/{name}', 0, keep_others=True)
                except OSError:
                    pass
    shutil.rmtree(folder, ignore_errors=True)


main()
