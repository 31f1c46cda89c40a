# Copies from one file to another by copy_file_range until killed, again and again.
#
# Usage: killed-copier.py FOLDER COUNT

import os
import random
import signal
import sys
import time

os.chdir(sys.argv[1])
for name in ('from', 'to'):
    with open(name, 'wb') as file:
        file.write(os.urandom(1 << 20))
for _ in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        source, target = os.open('from', os.O_RDONLY), os.open('to', os.O_RDWR)
        while True:
            os.copy_file_range(source, target, 4096, 0, 8192)
    time.sleep(0.03 + random.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
source, target = os.open('from', os.O_RDONLY), os.open('to', os.O_RDWR)
os.copy_file_range(source, target, 4096, 0, 8192)
