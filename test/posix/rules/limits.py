# Link counts at their limits, and large folders: what takes long.

import random

from kit import *


@rule('link: 65,000 links, and EMLINK', ROOT, 120)
def _():
    make('a')
    for number in range(1, 65_000):
        os.link('a', f'{number}')
    equal(os.stat('a').st_nlink, 65_000)
    fails(E.EMLINK, os.link, 'a', 'one-more')
    os.unlink('77')
    os.link('a', 'again')
    for name in os.listdir('.'):
        os.unlink(name)


@rule('mkdir: more than 64,998 subfolders: the link count becomes 1', ROOT, 240)
def _():
    for number in range(65_010):
        os.mkdir(f'{number}')
    equal(os.stat('.').st_nlink, 1)
    for number in range(65_010):
        os.rmdir(f'{number}')
    equal((os.stat('.').st_nlink, os.listdir('.')), (1, []))
    os.mkdir('x')
    os.rmdir('x')


@rule('a folder of 20,000 entries is filled, found and emptied')
def _():
    for number in range(20_000):
        make(f'{number}')
    for number in random.Random(1).sample(range(20_000), 500):
        os.stat(f'{number}')
        fails(E.ENOENT, os.stat, f'{number}-not')
    equal(len(os.listdir('.')), 20_000)
    for number in range(20_000):
        os.unlink(f'{number}')
    equal(os.listdir('.'), [])


@rule('handles: found again when 70,000 other files have been seen since', ROOT, 240)
def _():
    make('kept', b'kept')
    os.mkdir('folder')
    handles = [Handle('kept'), Handle('folder')]
    make('gone', b'gone')
    gone = Handle('gone')
    os.unlink('gone')
    os.mkdir('many')
    for number in range(70_000):
        os.close(os.open(f'many/{number}', os.O_CREAT | os.O_WRONLY))
    with open('/proc/sys/vm/drop_caches', 'w') as file:
        file.write('2')
    fd = handles[0].open(os.O_RDWR)
    equal(os.read(fd, 10), b'kept')
    os.close(fd)
    fd = handles[1].open(os.O_RDONLY | os.O_DIRECTORY)
    equal(os.fstat(fd).st_ino, os.stat('folder').st_ino)
    os.close(fd)
    fails(E.ESTALE, gone.open)
    for number in range(70_000):
        os.unlink(f'many/{number}')
