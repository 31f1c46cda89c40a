# Prints what debugfs reads of an image, in the form of attributes-record.py, for the inodes named in a
# record of it.
#
# Usage: attributes-debugfs.py IMAGE < RECORD
#
# Always true: nothing of it comes from the record but paths and numbers. Beside what the record has, the
# sum of all blocks that the inode's trees hold must be its block count, and each name of an indexed
# folder must lie where its hash belongs.

import json
import os
import re
import stat
import subprocess
import sys
import tempfile

KINDS = {'regular': stat.S_IFREG, 'directory': stat.S_IFDIR, 'character special': stat.S_IFCHR, 'socket': stat.S_IFSOCK,
         'block special': stat.S_IFBLK, 'symlink': stat.S_IFLNK, 'FIFO': stat.S_IFIFO}
NODE = re.compile(r'\s*(\d+)/\s*(\d+)\s+\d+/\s*\d+\s+(\d+) -\s+\d+\s+(\d+)(?: -\s+\d+)?\s+(\d+)(?: (Uninit))?')
BLOCK = 4096
HUGE_FILE = 0x40000
INDEX = 0x1000


class Image:
    def __init__(self, path, scratch):
        self.path, self.scratch, self.complaints = path, scratch, []

    def ask(self, commands):
        """Runs all commands in one process. @returns what each said"""
        script = os.path.join(self.scratch, 'commands')
        with open(script, 'w') as file:
            file.writelines(f'{command}\n' for command in commands)
        made = subprocess.run(['debugfs', '-f', script, self.path], capture_output=True)
        said = re.split(r'^debugfs: .*\n', made.stdout.decode('latin1'), flags=re.M)[1:]
        if len(said) != len(commands):
            raise AssertionError(f'{len(said)} answers to {len(commands)} commands')
        self.complaints += made.stderr.decode('latin1').split('\n')[1:]
        return said


def time_of(text, name):
    low, extra = (int(word, 16) for word in re.search(rf'^ *{name}: 0x(\w+):(\w+)', text, re.M).groups())
    sec = low - ((low & 0x80000000) << 1) + ((extra & 3) << 32)
    return sec * 10**9 + (extra >> 2)


def number(text, name):
    return int(re.search(rf'\b{name}:\s*(-?\d+)', text)[1])


def fields(text):
    kind = re.search(r'Type: (.*?)\s+Mode', text)[1]
    flags = int(re.search(r'Flags: 0x(\w+)', text)[1], 16)
    blocks = number(text, 'Blockcount')
    line = {'ino': number(text, 'Inode'), 'mode': KINDS[kind] | int(re.search(r'Mode:\s*(\d+)', text)[1], 8),
            'nlink': number(text, 'Links'), 'uid': number(text, 'User') & 0xFFFFFFFF,
            'gid': number(text, 'Group') & 0xFFFFFFFF, 'size': number(text, r'Project:\s*\d+\s+Size'),
            'blocks': blocks * 8 if flags & HUGE_FILE else blocks, 'flags': flags & ~HUGE_FILE,
            'generation': number(text, 'Generation'), 'project': number(text, 'Project')}
    for name, called in (('atime', 'atime'), ('mtime', 'mtime'), ('ctime', 'ctime'), ('btime', 'crtime')):
        line[name] = time_of(text, called)
    device = re.search(r'Device major/minor number: (\d+):(\d+)', text)
    if device:
        line['device'] = f'{int(device[1])}:{int(device[2])}'
    return line, number(text, 'File ACL')


def extents(text):
    """@returns what is written, as ranges of blocks, and how many blocks there are with those of the tree"""
    written, count = [], 0
    for at in map(NODE.match, text.split('\n')[1:]):
        if at is None:
            continue
        level, depth, start, _, length = (int(at[group]) for group in range(1, 6))
        if level < depth:
            count += 1
            continue
        count += length
        if at[6]:
            continue
        if written and written[-1][1] == start:
            written[-1][1] += length
        else:
            written.append([start, start + length])
    return written, count


LEAF_ENTRY = re.compile(r'(\d+) 0x(\w{8})-\w{8} \(\d+\) (.*?) {3}', re.S)
NODE_OR_LEAF = re.compile(r'^Entry #(\d+): Hash 0x(\w+), block \d+\n(Reading directory|Number of)', re.M)


def index_errors(text):
    """@returns names that do not lie between the hashes their block stands for, and how many names there are"""
    wrong, seen, leaves, node_low = [], 0, [], 0
    for at in NODE_OR_LEAF.finditer(text):
        # The lowest bit says that a hash began in the block before.
        low = int(at[2], 16) & ~1
        if at[3].startswith('Number'):
            node_low = low
        else:
            # A node's first entry has no hash of its own.
            leaves.append((node_low if at[1] == '0' else low, at.end()))
    bounds = [low for low, _ in leaves] + [1 << 32]
    ends = [begin for _, begin in leaves[1:]] + [len(text)]
    for at, (low, begin) in enumerate(leaves):
        for ino, hashed, name in LEAF_ENTRY.findall(text, begin, ends[at]):
            if int(ino) != 0:
                seen += 1
                if not low <= int(hashed, 16) <= bounds[at + 1]:
                    wrong.append(name)
    return wrong, seen


def interface_acl(value):
    """Entries that name nobody have no number; debugfs gives 0."""
    entries = [value[at:at + 8] for at in range(4, len(value), 8)]
    return value[:4] + b''.join(entry if entry[0] in (2, 8) else entry[:4] + b'\xff' * 4 for entry in entries)


def entries(text):
    found = []
    for at in re.finditer(r'^/(\d+)/\d+/-?\d+/-?\d+/(.*)/\d*/$', text, re.M):
        if int(at[1]) != 0 and at[2] not in ('.', '..'):
            found.append([at[2].encode('latin1').hex(), int(at[1])])
    return sorted(found)


def describe(image, recorded):
    numbers = [line['ino'] for line in recorded]
    lines = []
    asked = [command for ino in numbers
             for command in (f'stat <{ino}>', f'ea_list <{ino}>')]
    said = image.ask(asked)
    late, work = [], []
    for at, line in enumerate(recorded):
        text, names = said[2 * at], said[2 * at + 1]
        found, xattr_block = fields(text)
        found['path'] = line['path']
        lines.append(found)
        kind, ino = stat.S_IFMT(found['mode']), found['ino']
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            for name in ('flags', 'generation', 'project'):
                del found[name]
        found['xattrs'] = {}
        for name in re.findall(r'^  ((?:user|trusted|security|system)\..*?) \(\d+\)', names, re.M):
            late.append(f'ea_get -f {image.scratch}/{len(work)} <{ino}> "{name}"')
            work.append((found, 'xattr', name))
        fast = re.search(r'Fast link dest: "(.*)"$', text, re.M | re.S)
        if fast:
            found['target'] = fast[1].encode('latin1').hex()
        elif kind == stat.S_IFLNK:
            late.append(f'dump <{ino}> {image.scratch}/{len(work)}')
            work.append((found, 'target', ''))
        if 'EXTENTS:' in text:
            late.append(f'dump_extents <{ino}>')
            work.append((found, 'extents', xattr_block))
        elif (found['blocks'] != 0) != (xattr_block != 0):
            found['wrong'] = 'blocks without extents'
        if kind == stat.S_IFDIR:
            late.append(f'ls -p <{ino}>')
            work.append((found, 'entries', ''))
            if found['flags'] & INDEX:
                late.append(f'htree_dump <{ino}>')
                work.append((found, 'index', ''))
    for at, (text, (found, what, more)) in enumerate(zip(image.ask(late), work)):
        note(image, at, text, found, what, more)
    return lines


def note(image, at, text, found, what, more):
    if what in ('xattr', 'target'):
        with open(f'{image.scratch}/{at}', 'rb') as file:
            value = file.read()
        if what == 'target':
            found['target'] = value.hex()
        else:
            found['xattrs'][more] = (interface_acl(value) if 'posix_acl' in more else value).hex()
    elif what == 'extents':
        written, count = extents(text)
        if found['blocks'] != 8 * (count + (more != 0)):
            found['wrong'] = f'{count} blocks in the tree'
        if stat.S_ISREG(found['mode']):
            size = found['size']
            found['data'] = [[start * BLOCK, min(end * BLOCK, size)] for start, end in written if start * BLOCK < size]
    elif what == 'entries':
        found['entries'] = entries(text)
    elif what == 'index':
        wrong, seen = index_errors(text)
        if wrong or seen != len(found['entries']):
            found['wrong'] = f'{seen} names in the index, of them misplaced: {wrong[:3]}'


def main():
    recorded = [line for line in map(json.loads, sys.stdin) if 'ino' in line]
    with tempfile.TemporaryDirectory() as scratch:
        image = Image(sys.argv[1], scratch)
        for line in describe(image, recorded):
            print(json.dumps(line, sort_keys=True))
    for line in image.complaints:
        if line:
            print(json.dumps({'path': b'debugfs says'.hex(), 'text': line}))


main()
