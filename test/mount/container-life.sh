# A volume's life without privilege, in the folder $1, by the program `$2 $3`; see container.test.ts.
# What the test judges afterwards is left in the folder. Ends at the first command that fails.

set -eu
cd "$1"
node=$2
cli=$3
umbra() { "$node" "$cli" "$@"; }
field() { "$node" -p "JSON.parse(require('fs').readFileSync(0, 'utf8'))$1"; }

umbra create v.umbra --size 256M
mkdir mnt
umbra mount v.umbra mnt
mkdir mnt/sub
head -c 3000000 /dev/urandom > mnt/sub/data
ln mnt/sub/data mnt/hard
ln -s sub/data mnt/soft
mkfifo mnt/fifo
printf before > mnt/x
cp -a mnt one.copy
umbra snapshot create mnt one --json > one.json

printf after > mnt/x
rm mnt/hard
head -c 100000 /dev/urandom > mnt/new
mkdir mnt/.snapshots/two
mkdir mnt/.snapshots/three
ls mnt/.snapshots > three.listed
rmdir mnt/.snapshots/three
ls mnt/.snapshots > two.listed
rm one.copy/fifo
diff -r --no-dereference one.copy mnt/.snapshots/one > one.differences || true
cp -a mnt two.copy
umbra diff mnt one two --json > diff.json
umbra export mnt one --format raw -o one.img
umbra export mnt two --format raw -o two.img
umbra export mnt one --format qcow2 -o one.qcow2
umbra export mnt two --since one --backing one.qcow2 --format qcow2 -o two.qcow2
umbra check mnt
umbra status mnt --json > status.json
umbra unmount mnt
umbra check v.umbra

umbra import one.qcow2 -o w.umbra
umbra apply w.umbra two.qcow2
umbra mount w.umbra mnt
rm two.copy/fifo mnt/fifo
diff -r --no-dereference two.copy mnt
printf kept > mnt/kept
umbra sync mnt
kill -9 "$(umbra status mnt --json | field .daemon.pid)"
if ls mnt/ > dead.listed 2>&1; then exit 90; fi
umbra unmount mnt > cleared
umbra mount w.umbra mnt
cat mnt/kept > kept
umbra unmount mnt
umbra check w.umbra
if umbra doctor --json > doctor.json; then :; fi
